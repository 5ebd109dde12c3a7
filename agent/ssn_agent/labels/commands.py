"""`ssn-agent label` and `ssn-agent labels`: thin, as all commands."""

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console

from ssn_agent.errors import AgentError, MessageError, UsageError
from ssn_agent.options import (
    CameraOption,
    ConfigOption,
    LedgerOption,
    SinceOption,
    in_force,
    ledger_of,
    settings_of,
    shown,
    table_of,
)
from ssn_agent.settings import DEFAULT_PATH
from ssn_contract.messages import Label

if TYPE_CHECKING:
    from ssn_agent.settings import Settings
    from ssn_contract.http import LabelEntry

labels_app = typer.Typer(help="Read what people say of verdicts.", no_args_is_help=True)


def label(
    word: Annotated[Literal["good", "bad"], typer.Argument(help="What the part is.")],
    camera: Annotated[str, typer.Argument(help="Of the verdict.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    sequence: Annotated[int | None, typer.Argument(help="Its number; or give --part.")] = None,
    epoch: Annotated[
        UUID | None, typer.Option(help="Of the number; default: the camera's newest.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="The newest verdict on the part with this id.")
    ] = None,
    why: Annotated[str | None, typer.Option(help="The reason.")] = None,
    defect_type: Annotated[str | None, typer.Option(help="What is wrong with it.")] = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Say whether a part is good or bad. Nothing is overwritten: the newest label counts."""
    from ssn_agent.labels.alone import keep
    from ssn_agent.ledger.label_writer import Said

    settings = in_force(settings_of(config))
    if epoch is None or sequence is None:
        epoch, sequence = _key(settings, camera, epoch, sequence, part)
    elif part is not None:
        raise UsageError("give a number or --part, not both")
    given = {"camera": camera, "epoch": epoch, "sequence": sequence, "label": word}
    try:
        said = Label.model_validate(
            {**given, "defect_type": defect_type, "labeller": by, "reason": why}
        )
    except ValidationError as error:
        raise UsageError(str(MessageError.of(error, "label"))) from error
    answer = keep(settings, Said(said, "cli"))
    if answer.problem is not None:
        raise AgentError(answer.problem)
    known = " (said before)" if answer.status == "repeated" else ""
    typer.echo(f"{camera} {sequence} of {epoch}: {word}, by {by}{known}")


@labels_app.command("list")
def labels_list(
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="Where people, or one and the verdict, differ.")
    ] = False,
    camera: CameraOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Print labels, the newest first."""
    from ssn_agent.ledger import label_query
    from ssn_agent.ledger.label_query import LabelFilter
    from ssn_agent.ledger.query import point_in_time
    from ssn_agent.ledger.reader import open_ledger

    now = datetime.now(timezone.utc)
    after = None if since is None else point_in_time(since, now)
    wanted = LabelFilter(camera=camera, since=after)
    engine = open_ledger(ledger_of(ledger, config))
    columns = ["labelled (UTC)", "camera", "number", "part", "verdict", "label", "by", "why"]
    table = table_of(*columns, *(["against"] if disagreements else []))
    if disagreements:
        differing = label_query.disagreements(engine, wanted, limit)
        lines = [item.model_dump_json() for item in differing]
        for item in differing:
            for entry in item.labels:
                table.add_row(*_cells(entry), ", ".join(item.between))
    else:
        found = label_query.labels(engine, wanted, limit)
        lines = [entry.model_dump_json() for entry in found]
        for entry in found:
            table.add_row(*_cells(entry))
    if as_lines:
        for line in lines:
            typer.echo(line)
        return
    Console().print(table)
    if len(lines) == limit:
        typer.echo(f"the newest {limit}; --limit shows more", err=True)


def _cells(entry: "LabelEntry") -> list[str]:
    kind = f"{entry.label} {entry.defect_type}" if entry.defect_type else entry.label
    return [
        f"{entry.labelled_at:%Y-%m-%d %H:%M:%S}",
        entry.camera,
        str(entry.sequence),
        shown(entry.part_id or "-"),
        entry.verdict.value,
        shown(kind),
        shown(entry.labeller),
        shown(entry.reason or "-"),
    ]


def _key(
    settings: "Settings", camera: str, epoch: UUID | None, sequence: int | None, part: str | None
) -> tuple[UUID, int]:
    """Return epoch and number of the verdict that is meant. Raises UsageError, LedgerError."""
    from ssn_agent.ledger.query import Filter, newest_key
    from ssn_agent.ledger.reader import open_ledger

    if (sequence is None) == (part is None) or (part is not None and epoch is not None):
        raise UsageError("give a number, with --epoch where it is not of the newest, or --part")
    wanted = Filter(station=str(settings.station), camera=camera, part=part)
    found = newest_key(open_ledger(settings.ledger_path), wanted)
    if found is None:
        what = f"part {part!r}" if part is not None else "verdicts"
        msg = f"{settings.ledger_path}: has no {what} of camera {camera}"
        raise AgentError(msg)
    return (found[0], sequence) if sequence is not None else found
