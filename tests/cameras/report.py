"""The page that people read, made from the rows."""

from chaos.report import Row, details

_COLUMNS = ("fault", "times", "records", "judged", "INVALID", "recovery, s", "ms a frame", "bars")


def page(rows: list[Row], machine: str) -> str:
    """Return the report in Markdown."""
    lines = [
        "# Cameras under faults and loads",
        "",
        "Made from `cameras.json`, which `python -m cameras` writes (`make soak-cameras`). The",
        "real capture process of each driver runs against its counterpart. A consumer of the",
        "harness' stands for inference and ledger: it reads the journal, looks at the pixels, and",
        "frees their slots.",
        "",
        f"Machine: {machine}.",
        "",
        "- **records**: parts that were counted. **judged**: those of them that have a frame.",
        "- **recovery**: from when the counterpart answers again until a frame is judged that was",
        "  taken after that; median / worst.",
        "- **ms a frame**: processor time of the capture process.",
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
    cost = row.figures.get("capture_cpu_ms_per_frame")
    missed = sum(not bar.held for bar in row.bars)
    cells = [row.fault, row.times, row.triggers, row.verdicts, invalid, recovery]
    cells += ["" if cost is None else f"{cost:.2f}", f"**misses {missed}**" if missed else "held"]
    return f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"
