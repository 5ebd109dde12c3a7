"""`ssn-agent models`: thin, as all commands."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ssn_agent.errors import AgentError, MessageError, UpdateError, UsageError
from ssn_agent.options import (
    ConfigOption,
    LedgerOption,
    in_force,
    ledger_of,
    settings_of,
    shown,
    table_of,
)
from ssn_agent.settings import DEFAULT_PATH

if TYPE_CHECKING:
    from ssn_agent.ledger.model_query import ModelStepEntry
    from ssn_agent.settings import Settings
    from ssn_agent.updates.state import Followed, ModelsState, Stored
    from ssn_contract.metrics import CameraMetrics

WAIT_S = 10.0
"""For the updates process to take what is asked; it may be in the middle of a pull."""
_TICK_S = 0.1

models_app = typer.Typer(
    help="See and steer which bundles judge where a name is followed.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="The bundle's name, as cameras follow it.")]
ByOption = Annotated[str, typer.Option(help="Who asks.")]


@models_app.command("show")
def models_show(config: ConfigOption = DEFAULT_PATH) -> None:
    """Print where each followed name stands, and what judges each camera."""
    from ssn_agent.metrics.view import NotRunning, Unreadable, look
    from ssn_agent.updates.state import read_state

    settings = in_force(settings_of(config))
    state = read_state(settings.models_file)
    console = Console()
    if settings.followed:
        table = table_of("name", "phase", "since (UTC)", "in force", "before", "candidate")
        for name in settings.followed:
            table.add_row(name, *_standing(state.followed.get(name)))
        console.print(table)
        for name, followed in state.followed.items():
            for digest, reason in followed.refused.items():
                console.print(f"{name} {digest[:12]} refused: {shown(reason)}", soft_wrap=True)
    else:
        console.print("no camera follows a bundle")
    try:
        cameras = look(settings.runtime_dir).cameras
    except (NotRunning, Unreadable) as error:
        typer.echo(f"what judges is not known: {error}", err=True)
        return
    console.print(_judging(settings, cameras))


@models_app.command("history")
def models_history(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Print which bundles came, were refused, judged and went back, the newest first."""
    from ssn_agent.ledger.model_query import history
    from ssn_agent.ledger.reader import open_ledger

    found = history(open_ledger(ledger_of(ledger, config)), limit)
    if as_lines:
        for entry in found:
            typer.echo(entry.model_dump_json())
        return
    table = table_of("at (UTC)", "of", "step", "bundle", "digest", "why, or on what")
    for entry in found:
        table.add_row(*_cells(entry))
    Console().print(table)
    if len(found) == limit:
        typer.echo(f"the newest {limit}; --limit shows more", err=True)


@models_app.command("rollback")
def models_rollback(name: NameArgument, by: ByOption, config: ConfigOption = DEFAULT_PATH) -> None:
    """Go back from what judges a followed name to what judged before it."""
    settings = _running(config)
    standing = _followed(settings, name)
    if standing is None or standing.in_force is None:
        msg = f"{name}: nothing has come into force, so there is nothing to go back from"
        raise AgentError(msg)
    before = standing.in_force
    state = _ask(settings, action="rollback", follows=name, by=by)
    after = state.followed.get(name)
    if after is not None and after.in_force == before:
        msg = f"{name}: {_stored(before)} judges on; the log says why (journalctl -u ssn-agent)"
        raise AgentError(msg)
    now = None if after is None else after.in_force
    typer.echo(f"{name}: back from {_stored(before)} to {_stored(now)}, by {by}")


@models_app.command("retry")
def models_retry(
    name: NameArgument,
    digest: Annotated[str, typer.Argument(help="The beginning of the refused bundle's digest.")],
    by: ByOption,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Have a bundle tried again that was refused or rolled back."""
    settings = _running(config)
    standing = _followed(settings, name)
    refused = {} if standing is None else standing.refused
    meant = [known for known in refused if known.startswith(digest)]
    if len(meant) != 1:
        known = ", ".join(one[:12] for one in refused) or "none"
        what = "is of no refused bundle" if not meant else "is of several"
        msg = f"{name}: {digest!r} {what}; refused are {known}"
        raise UsageError(msg)
    state = _ask(settings, action="retry", digest=meant[0], by=by)
    after = state.followed.get(name)
    if after is not None and meant[0] in after.refused:
        msg = f"{name}: {meant[0][:12]} stays refused; the log says why (journalctl -u ssn-agent)"
        raise AgentError(msg)
    typer.echo(f"{name}: {meant[0][:12]} is tried again, by {by}")


def look_now(runtime_dir: Path) -> None:
    """Have the agent that runs there, where one follows bundles, look at its channel.

    Raises UpdateError.
    """
    from ssn_agent.frames.runtime import RuntimeFiles
    from ssn_agent.metrics.view import NotRunning, Unreadable, running_settings
    from ssn_agent.publish.announcements import touch

    announced = RuntimeFiles(runtime_dir).announced
    try:
        if running_settings(runtime_dir).followed:
            touch(announced)
    except (NotRunning, Unreadable):
        return
    except OSError as error:
        msg = f"{announced}: cannot be touched ({error.strerror}); the agent looks by schedule"
        raise UpdateError(msg) from error


def _running(config: ConfigOption) -> "Settings":
    """Return the settings of the agent that runs there. Raises NotRunning, Unreadable."""
    from ssn_agent.metrics.view import running_settings

    return running_settings(settings_of(config).runtime_dir)


def _followed(settings: "Settings", name: str) -> "Followed | None":
    """Return where a name stands. Raises UsageError, UpdateError."""
    from ssn_agent.updates.state import read_state

    if name not in settings.followed:
        names = ", ".join(settings.followed) or "none"
        msg = f"{name}: no camera follows it; followed are {names}"
        raise UsageError(msg)
    return read_state(settings.models_file).followed.get(name)


def _ask(settings: "Settings", **asked: str) -> "ModelsState":
    """Ask the updates process, and return what is decided when it has taken it.

    Raises UsageError, UpdateError, AgentError.
    """
    from ssn_agent.frames.runtime import RuntimeFiles
    from ssn_agent.updates.request import Request, write_request
    from ssn_agent.updates.state import read_state

    try:
        request = Request.model_validate(asked)
    except ValidationError as error:
        raise UsageError(str(MessageError.of(error, asked["action"]))) from error
    path = RuntimeFiles(settings.runtime_dir).update_request
    write_request(path, request)
    until = time.monotonic() + WAIT_S
    while path.exists():
        if time.monotonic() >= until:
            msg = (
                f"{path}: not taken within {WAIT_S:.0f} s, as in the middle of a pull or a trial; "
                "it stays asked: look again with `ssn-agent models show`"
            )
            raise AgentError(msg)
        time.sleep(_TICK_S)
    return read_state(settings.models_file)


def _standing(followed: "Followed | None") -> tuple[str, ...]:
    if followed is None:
        return "idle", "-", _stored(None), "-", "-"
    before = _stored(followed.before) if followed.in_force is not None else "-"
    candidate = "-" if followed.candidate is None else _stored(followed.candidate)
    since = f"{followed.since:%Y-%m-%d %H:%M:%S}"
    return followed.phase.value, since, _stored(followed.in_force), before, candidate


def _stored(bundle: "Stored | None") -> str:
    return "the settings' bundle" if bundle is None else f"{bundle.version} {bundle.digest[:12]}"


def _judging(settings: "Settings", cameras: "list[CameraMetrics]") -> Table:
    table = table_of("camera", "follows", "judged by", "digest", "engine")
    for c in cameras:
        known = settings.cameras.get(c.camera)
        follows = "-" if known is None else known.follow or "-"
        by = ["nothing", "-"]
        if c.bundle is not None:
            by = [f"{c.bundle.name} {c.bundle.version}", c.bundle.digest[:12]]
        table.add_row(c.camera, follows, *by, c.engine or "-")
    return table


def _cells(entry: "ModelStepEntry") -> list[str]:
    bundle = entry.bundle
    runs_on = ", ".join(f"{key} {value}" for key, value in entry.figures.items())
    return [
        f"{entry.at:%Y-%m-%d %H:%M:%S}",
        entry.camera or entry.follows or "-",
        entry.step,
        "-" if bundle is None else f"{bundle.name} {bundle.version}",
        "-" if bundle is None else bundle.digest[:12],
        shown(entry.detail or runs_on or "-"),
    ]
