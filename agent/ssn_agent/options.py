"""Options that several commands have, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ssn_agent.settings import Settings, load_settings
from ssn_contract.messages import InvalidReason, VerdictKind

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Settings file (TOML).", envvar="SSN_CONFIG")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: key.path=value.")
]
LedgerOption = Annotated[
    Path | None, typer.Option("--ledger", help="Database file; default: the settings' one.")
]
SinceOption = Annotated[
    str | None, typer.Option(help="From this time on: 2026-05-04T06:00 (UTC), or 90m, 8h, 7d ago.")
]
UntilOption = Annotated[str | None, typer.Option(help="Before this time, given likewise.")]
CameraOption = Annotated[str | None, typer.Option(help="Of this camera.")]
VerdictOption = Annotated[
    VerdictKind | None, typer.Option(case_sensitive=False, help="With this verdict.")
]
ReasonOption = Annotated[InvalidReason | None, typer.Option(help="INVALID for this reason.")]
ModelOption = Annotated[
    str | None, typer.Option(help="By this bundle: NAME, NAME-VERSION, or its digest's beginning.")
]
PartOption = Annotated[str | None, typer.Option(help="Of the part with this id.")]


def settings_of(config: Path, overrides: list[str] | None = None) -> Settings:
    """Resolve the settings. Raises SettingsError."""
    return load_settings(config, overrides or [])


def in_force(settings: Settings) -> Settings:
    """Return the settings of the agent that runs there, where one does and we may read them.

    The service's environment file changes what the settings file says; it is not a command's.
    """
    from ssn_agent.metrics.view import NotRunning, Unreadable, running_settings

    try:
        return running_settings(settings.runtime_dir)
    except (NotRunning, Unreadable):  # the command says what to do about the latter
        return settings


def shown(text: str) -> str:
    """Return what a terminal shows and does not act on: it came from outside."""
    return escape("".join(c if c.isprintable() else "?" for c in text))


def table_of(*columns: str) -> Table:
    """Return an empty table that cuts nothing off in a narrow terminal, but folds it."""
    table = Table(*columns)
    for column in table.columns:
        column.overflow = "fold"
    return table


def ledger_of(ledger: Path | None, config: Path) -> Path:
    """Return the ledger that is named, or the settings' one. Raises SettingsError."""
    return settings_of(config).ledger_path if ledger is None else ledger
