"""`ssn-agent replay`: thin, as all commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from ssn_agent.errors import ReplayError
from ssn_agent.inference.settings import EngineName
from ssn_agent.options import ConfigOption, settings_of
from ssn_agent.settings import DEFAULT_PATH

if TYPE_CHECKING:
    from ssn_agent.replay.replay import Judged, Replayed


def replay(
    camera: Annotated[str, typer.Argument(help="Of the verdict.")],
    sequence: Annotated[int, typer.Argument(help="Its number.")],
    epoch: Annotated[
        UUID | None, typer.Option(help="Of the number; default: the camera's newest.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's file; default: it is searched by its digest.")
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="To replay on; default: that of the recording.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Default: as many as in the recording.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Judge the picture of a recorded verdict again, and compare bit by bit.

    Exit codes: 0 reproduced, 1 not, 2 wrong use, 3 there is no such judged verdict; missing is
    4 the picture, 5 the bundle, 6 the settings, 7 the engine.
    """
    from ssn_agent.ledger.query import Filter, newest_key
    from ssn_agent.ledger.reader import open_ledger
    from ssn_agent.replay.record import Missing, find
    from ssn_agent.replay.replay import replay as again

    settings = settings_of(config)
    ledger = open_ledger(settings.ledger_path)
    if epoch is None:
        newest = newest_key(ledger, Filter(station=str(settings.station), camera=camera))
        if newest is None:
            msg = f"{settings.ledger_path}: has no verdicts of camera {camera}"
            raise ReplayError(msg, Missing.VERDICT)
        epoch = newest[0]
    record = find(ledger, settings, camera, epoch, sequence, bundle)
    found = again(record, settings, engine, threads)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _show(found, f"{camera} {sequence} of {epoch}")
    raise typer.Exit(found.exit_code)


def _show(found: "Replayed", title: str) -> None:
    table = Table("", "recorded", "now", title=title, title_justify="left")
    for (name, then), (_, now) in zip(_cells(found.recorded), _cells(found.now), strict=True):
        table.add_row(name, then, now, style=None if then == now else "bold red")
    console = Console()
    console.print(table)
    lines = [f"judged by {found.engine}, threads: {found.threads}"]
    lines += [f"not as it was: {what}" for what in found.differences]
    verdict = "reproduced" if found.is_reproduced else "NOT reproduced"
    lines.append(f"expected: {found.expected}; found: {found.found}: {verdict}")
    if not found.same_precision:
        lines.append("another precision than in the recording: a difference proves nothing")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(judged: "Judged") -> list[tuple[str, str]]:
    boxes = [
        f"{d.width} x {d.height} at ({d.x}, {d.y}), peak {d.peak!r} at ({d.peak_x}, {d.peak_y})"
        for d in judged.defects
    ]
    return [
        ("verdict", judged.verdict.value),
        ("score", repr(judged.score)),
        ("defects", "\n".join(boxes) or "none"),
    ]
