"""`ssn-agent doctor`: thin, as `cli`."""

import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_agent.options import ConfigOption, SetOption
from ssn_agent.settings import DEFAULT_PATH

if TYPE_CHECKING:
    from ssn_agent.doctor.account import Account
    from ssn_agent.doctor.findings import Finding, Subject

NICE = 19
"""A line may run beside it."""


def doctor(
    out: Annotated[
        Path | None,
        typer.Option(help="The file to send; default: named by station and time, here."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="Who the service runs as; default: ssn-agent for root, else you."),
    ] = None,
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
) -> None:
    """Look at all of this station, say what is wrong and what to do, and write one file to send.

    It works with and without a running agent, and changes nothing. No key, password, token or image
    is in the file. Exit codes: 0 no fault, 1 there are faults, 2 wrong use.
    """
    from rich.console import Console

    from ssn_agent.doctor.account import account_of
    from ssn_agent.doctor.findings import Level
    from ssn_agent.doctor.parcel import check_place, file_name, write_parcel
    from ssn_agent.doctor.view import render
    from ssn_agent.log import configure

    configure("critical", "ssn-agent")
    account = account_of(user)
    os.nice(NICE)
    if out is not None:
        check_place(out)
    found, subject = _examined(config, overrides or [], account)
    Console().print(render(found))
    if out is None:
        station = "unknown" if subject is None else str(subject.settings.station)
        out = Path(file_name(station, datetime.now(timezone.utc)))
        check_place(out)
    kib = write_parcel(out, config, found, subject) / 2**10
    typer.echo(f"{out}: {kib:.0f} KiB, to send to who helps; no secret and no image is in it")
    if any(one.level is Level.FAULT for one in found):
        raise typer.Exit(1)


def _examined(
    config: Path, overrides: list[str], account: "Account"
) -> "tuple[list[Finding], Subject | None]":
    """Return what is found, and what it was found at; None where the settings are not sound."""
    from ssn_agent.doctor.account import acting_as
    from ssn_agent.doctor.checks import CHECKS
    from ssn_agent.doctor.environment import take_service_environment
    from ssn_agent.doctor.findings import fault, looked_at, unknown
    from ssn_agent.doctor.in_force import CHECK, subject_found
    from ssn_agent.errors import SettingsError
    from ssn_agent.settings import load_settings

    take_service_environment(config)
    try:
        settings = load_settings(config, overrides)
    except SettingsError as error:
        do = f"correct it; `ssn-agent config check --config {config}` says the same"
        said = [fault(line, do) for line in str(error).splitlines()]
        said.append(unknown("all else: it is looked at when the settings are sound"))
        return [replace(one, check=CHECK) for one in said], None
    said, subject = subject_found(config, settings, account)
    with acting_as(account):
        return said + looked_at(subject, CHECKS), subject
