"""`ssn-agent ledger`: thin. What it calls does the work."""

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ssn_agent.errors import UsageError
from ssn_agent.options import (
    CameraOption,
    ConfigOption,
    LedgerOption,
    ModelOption,
    PartOption,
    ReasonOption,
    SinceOption,
    UntilOption,
    VerdictOption,
    ledger_of,
    settings_of,
    table_of,
)
from ssn_agent.settings import DEFAULT_PATH
from ssn_contract.messages import InvalidReason, VerdictKind

if TYPE_CHECKING:
    from ssn_agent.ledger.query import Filter

ledger_app = typer.Typer(help="Read and keep the ledger.", no_args_is_help=True)


@ledger_app.command("stats")
def ledger_stats(ledger: LedgerOption = None, config: ConfigOption = DEFAULT_PATH) -> None:
    """Print counts and latencies, by camera."""
    from ssn_agent.ledger.reader import open_ledger, stats

    table = table_of(
        "camera", "triggers", "PASS", "FAIL", "INVALID", "median ms", "p99 ms", "waiting"
    )
    for item in stats(open_ledger(ledger_of(ledger, config))):
        reasons = ", ".join(
            f"{name} {count}" for name, count in sorted(item.counts.invalid.items())
        )
        table.add_row(
            item.camera,
            str(item.triggers),
            str(item.counts.passed),
            str(item.counts.failed),
            reasons or "0",
            _figure(item.latency_median_ms),
            _figure(item.latency_p99_ms),
            str(item.undelivered),
        )
    Console().print(table)


@ledger_app.command("query")
def ledger_query(
    since: SinceOption = None,
    until: UntilOption = None,
    camera: CameraOption = None,
    verdict: VerdictOption = None,
    reason: ReasonOption = None,
    model: ModelOption = None,
    part: PartOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Print verdicts, newest first."""
    from ssn_agent.ledger.query import as_json, newest
    from ssn_agent.ledger.reader import open_ledger

    wanted = _filter(since, until, camera, verdict, reason, model, part)
    rows = newest(open_ledger(ledger_of(ledger, config)), wanted, limit)
    if as_lines:
        for row in rows:
            typer.echo(as_json(row))
        return
    table = table_of(
        "triggered (UTC)", "camera", "number", "part", "verdict", "score", "model", "ms"
    )
    for row in rows:
        table.add_row(
            f"{row.triggered_at:%Y-%m-%d %H:%M:%S}",
            row.camera,
            str(row.sequence),
            escape(row.part_id or "-"),
            f"{row.verdict} {row.reason}" if row.reason else row.verdict,
            "-" if row.score is None else f"{row.score:.3f}",
            f"{row.bundle_name} {row.bundle_version}" if row.bundle_name else "-",
            _figure(row.latency_ms),
        )
    Console().print(table)
    if len(rows) == limit:
        typer.echo(f"the newest {limit}; --limit shows more", err=True)


@ledger_app.command("export")
def ledger_export(
    out: Annotated[Path | None, typer.Option(help="CSV file; default: standard output.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    camera: CameraOption = None,
    verdict: VerdictOption = None,
    reason: ReasonOption = None,
    model: ModelOption = None,
    part: PartOption = None,
    for_training: Annotated[
        Path | None,
        typer.Option(help="Write the labelled parts' pictures and labels into this new folder."),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--all", help="With it: unlabelled parts' pictures, too.")
    ] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Write verdicts as CSV, oldest first; or what the trainer learns from, as a folder."""
    from ssn_agent.ledger.query import export, export_csv
    from ssn_agent.ledger.reader import open_ledger
    from ssn_agent.ledger.training import export_for_training

    wanted = _filter(since, until, camera, verdict, reason, model, part)
    path = ledger_of(ledger, config)
    engine = open_ledger(path)
    if for_training is not None:
        if out is not None:
            raise UsageError("give --out or --for-training, not both")
        images = path.parent / "images"  # as the settings have them, also beside a copied ledger
        done = export_for_training(engine, images, for_training, wanted, unlabelled=unlabelled)
        typer.echo(f"{for_training}: {done}", err=True)
    elif unlabelled:
        raise UsageError("--all goes with --for-training")
    elif out is None:
        export_csv(engine, sys.stdout, wanted)
    else:
        typer.echo(f"{out}: {export(engine, out, wanted)} verdicts", err=True)


@ledger_app.command("backup")
def ledger_backup(
    out: Annotated[Path, typer.Option(help="The copy's file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Copy the ledger while the agent runs, and check the copy."""
    from ssn_agent.ledger.backup import backup
    from ssn_agent.ledger.reader import open_ledger

    backup(open_ledger(ledger_of(ledger, config)), out, replace=force)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, sound", err=True)


@ledger_app.command("downgrade")
def ledger_downgrade(
    to: Annotated[str, typer.Option(help="The schema's revision that the older agent knows.")],
    force: Annotated[bool, typer.Option("--force", help="Lose labels, too.")] = False,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Take a stopped agent's ledger back to what an older agent can read, before that one comes."""
    from ssn_agent.ledger.downgrade import downgrade

    settings = settings_of(config)
    for step in downgrade(settings, to, force=force):
        typer.echo(f"undone: {step}")
    typer.echo(f"{settings.ledger_path}: an agent that knows {to} can use it")


def _filter(
    since: str | None,
    until: str | None,
    camera: str | None,
    verdict: VerdictKind | None,
    reason: InvalidReason | None,
    model: str | None,
    part: str | None,
) -> "Filter":
    from ssn_agent.ledger.query import Filter, point_in_time

    now = datetime.now(timezone.utc)
    times = [None if text is None else point_in_time(text, now) for text in (since, until)]
    return Filter(times[0], times[1], camera, verdict, reason, model, part)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
