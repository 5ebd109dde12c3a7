"""Rows to JSON, and the page that people read made from it."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from chaos.tally import Tally, summary
from ssn_agent.atomic import write_atomically


class Bar(BaseModel):
    """What a row has to keep to, and whether it did."""

    text: str
    measured: str
    held: bool


class Row(BaseModel):
    """One fault, or one load."""

    name: str
    """By which it is asked for."""
    fault: str
    counts: str
    """Which size of a run it was."""
    times: int = 1
    """How often the fault was made."""
    offered: int | None = None
    triggers: int | None = None
    verdicts: int | None = None
    invalid: dict[str, int] = {}
    published: int | None = None
    received: int | None = None
    lost: int | None = None
    duplicated: int | None = None
    redelivered: int | None = None
    gaps: int | None = None
    recovery_s: dict[str, float] = {}
    """Median and worst."""
    figures: dict[str, float] = {}
    """What else was measured; the unit is in the name."""
    bars: list[Bar] = []
    notes: list[str] = []
    seconds: float = 0.0
    commit: str = ""

    @property
    def held(self) -> bool:
        """Say whether it kept to all of its bars."""
        return all(bar.held for bar in self.bars)


def at_most(text: str, measured: float | None, limit: float, unit: str = "") -> Bar:
    """Return a bar that a figure must not exceed; one that was not measured is not held."""
    shown = "not measured" if measured is None else f"{measured:.4g}{unit}"
    held = measured is not None and measured <= limit
    return Bar(text=f"{text} <= {limit:g}{unit}", measured=shown, held=held)


def at_least(text: str, measured: float, limit: float, unit: str = "") -> Bar:
    """Return a bar that a figure must reach."""
    shown = f"{measured:.4g}{unit}"
    return Bar(text=f"{text} >= {limit:g}{unit}", measured=shown, held=measured >= limit)


def nothing_lost(found: Tally) -> list[Bar]:
    """Return the bars that hold for every row with a witness."""
    counts = {
        "lost": found.lost,
        "duplicated": found.duplicated,
        "gaps in the numbers": found.gaps,
        "verdicts that contradict the part": found.wrong,
        "ids with two numbers": found.renumbered,
    }
    return [Bar(text=f"0 {name}", measured=str(n), held=n == 0) for name, n in counts.items()]


def witnessed(
    row: Row, found: Tally, recovery_s: list[float] | None = None, *, within_s: float | None = None
) -> Row:
    """Put the witness's counts into a row, with their bars."""
    counts: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("offered", "triggers", "verdicts", "invalid", "published", "received")
    }
    counts |= {name: getattr(found, name) for name in ("lost", "duplicated", "redelivered", "gaps")}
    times = recovery_s or []
    bars = nothing_lost(found)
    if within_s is not None:
        bars.append(at_most("worst recovery", max(times, default=None), within_s, " s"))
    notes = [f"lost: {', '.join(found.lost_parts)}"] if found.lost_parts else []
    return row.model_copy(
        update={
            **counts,
            "recovery_s": summary(times),
            "bars": [*row.bars, *bars],
            "notes": [*row.notes, *notes],
        }
    )


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a report; none where there is none yet."""
    if not path.exists():
        return []
    return [Row.model_validate(row) for row in json.loads(path.read_text())["rows"]]


def write_report(path: Path, rows: list[Row], machine: str) -> None:
    """Write the JSON, and the page beside it."""
    write_rows(path, rows, machine)
    write_atomically(path.with_suffix(".md"), page(rows, machine).encode())


def write_rows(path: Path, rows: list[Row], machine: str) -> None:
    """Write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{**row.model_dump(mode="json"), "held": row.held} for row in rows]
    text = json.dumps({"machine": machine, "rows": listed}, indent=1) + "\n"
    write_atomically(path, text.encode())


_COLUMNS = (
    *("fault", "times", "triggers", "verdicts", "INVALID", "published", "received"),
    *("lost", "duplicated", "redelivered", "recovery, s", "bars"),
)


def page(rows: list[Row], machine: str) -> str:
    """Return the report in Markdown."""
    lines = [
        "# Under faults",
        "",
        "Made from `chaos.json`, which `python -m chaos` writes (`make chaos`,",
        "`make soak-runtime`). A witness outside the agent offers numbered parts over ZeroMQ,",
        "keeps its own list of them and of the answers, and has a subscriber of its own at the",
        "broker. Afterwards its lists are compared with the ledger.",
        "",
        f"Machine: {machine}.",
        "",
        "- **lost**: answered, and without exactly one verdict in the ledger and on the broker; or",
        "  without an answer within 10 s of its first sending.",
        "- **duplicated**: keys with two different verdicts. **redelivered**: messages that",
        "  repeat the verdict of a key.",
        "- **recovery**: from the fault until a part that was offered after it has its PASS or",
        "  FAIL, committed, at the subscriber; median / worst.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(_line(row) for row in rows),
        "",
    ]
    for row in rows:
        lines += details(row)
    return "\n".join(lines)


def _line(row: Row) -> str:
    invalid = ", ".join(f"{reason} {count}" for reason, count in row.invalid.items()) or "0"
    recovery = " / ".join(f"{seconds:.2f}" for seconds in row.recovery_s.values())
    missed = sum(not bar.held for bar in row.bars)
    cells: list[object] = [row.fault, row.times, row.triggers, row.verdicts, invalid]
    cells += [row.published, row.received, row.lost, row.duplicated, row.redelivered]
    cells += [recovery, f"**misses {missed}**" if missed else "held"]
    return f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"


def details(row: Row) -> list[str]:
    """Return what a page says of one row: bars, figures, notes."""
    lines = [
        f"## {row.fault}",
        "",
        f"`{row.name}`, {row.counts} counts, {row.seconds:.0f} s, commit {row.commit}.",
        "",
    ]
    lines += [
        f"- {'held' if bar.held else '**missed**'}: {bar.text} (measured: {bar.measured})"
        for bar in row.bars
    ]
    lines += [f"- {name}: {value:.4g}" for name, value in row.figures.items()]
    return [*lines, *(f"- {note}" for note in row.notes), ""]
