"""The report of `data check` on a terminal."""

from collections import defaultdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssn_trainer.data.check import Finding, Report

_SHOWN = 10
"""Findings of one topic, sizes and defect types that are printed one by one."""


def show(report: Report, console: Console) -> None:
    """Print counts, then findings: errors first."""
    counts = Table(show_header=False)
    for name, value in (
        ("data", report.data),
        ("format", report.format or "not known"),
        ("images", str(report.images)),
        ("unlabelled, passed over", str(report.unlabelled)),
        ("labels", _counts(report.labels)),
        ("defect types", _counts(report.types)),
        ("marked parts", _counts(report.parts)),
        ("groups", f"{report.groups}, by {report.grouped_by}" if report.grouped_by else "-"),
        ("sizes", _sizes(report.sizes)),
        ("masks", f"{report.masks} fit, for {report.labels.get('bad', 0)} bad images"),
    ):
        counts.add_row(name, Text(value))
    console.print(counts)
    by_topic: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_topic[finding.level, finding.topic].append(finding)
    for (level, topic), found in by_topic.items():
        style = "bold red" if level == "error" else "yellow"
        for finding in found[:_SHOWN]:
            console.print(Text.assemble((f"{level}, {topic}: ", style), finding.message))
        if len(found) > _SHOWN:
            console.print(
                Text(f"{level}, {topic}: {len(found) - _SHOWN} more (--json has all)", style)
            )
    warnings = len(report.findings) - report.errors
    console.print(f"{_number(report.errors, 'error')}, {_number(warnings, 'warning')}")


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name}: {n}" for name, n in list(counts.items())[:_SHOWN]]
    more = [f"and {len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
    return ", ".join([*shown, *more]) or "-"


def _sizes(sizes: dict[str, int]) -> str:
    """Name a few sizes; of many the range."""
    if len(sizes) <= _SHOWN:
        return _counts(sizes)
    widths, heights = zip(*(map(int, size.split("x")) for size in sizes), strict=True)
    return (
        f"{len(sizes)} sizes, {min(widths)} to {max(widths)} wide, "
        f"{min(heights)} to {max(heights)} high"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
