"""What was found, as a table for people; 80 columns are enough for it."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssn_agent.doctor.findings import Finding, Level

COLOURS = {Level.OK: "green", Level.UNKNOWN: "dim", Level.WARNING: "yellow", Level.FAULT: "red"}


def render(found: Sequence[Finding]) -> RenderableType:
    """Return the table, and a line that sums it up."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "check", "what, and what to do"):
        table.add_column(name, overflow="fold")
    for one in found:
        said = Text(_printable(one.what))
        if one.do:
            said.append(f"\n-> {_printable(one.do)}", "bold")
        table.add_row(Text(one.level.value, COLOURS[one.level]), one.check, said)
    counts = Counter(one.level for one in found)
    faults, warnings = counts[Level.FAULT], counts[Level.WARNING]
    return Group(table, "", f"{_many(faults, 'fault')}, {_many(warnings, 'warning')}")


def _many(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _printable(text: str) -> str:
    """Return what a terminal shows and does not act on: devices and brokers wrote into it."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
