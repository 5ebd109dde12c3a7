"""`python -m chaos --out chaos-out/chaos.json [--counts soak] [SCENARIO ...]`, as root.

Makes the faults one after the other, each on a station of its own, and writes the report after
each. Rows that the report has already, with the same counts, are kept: a run that was cut off goes
on where it was. `--fresh` begins anew.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from chaos import broker, clock, disk, loads, processes
from chaos.counts import SIZES, Counts
from chaos.report import Bar, Row, read_rows, write_report

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS: dict[str, tuple[Callable[[Path, Counts], list[Row]], tuple[str, ...]]] = {
    "kills": (
        processes.kills,
        ("kill-capture", "kill-inference", "kill-ledger", "kill-supervisor"),
    ),
    "hangs": (processes.hangs, ("hang-capture", "hang-inference", "hang-ledger")),
    "broker-killed": (broker.killed, ("broker-killed",)),
    "broker-dropped": (broker.dropped, ("broker-dropped",)),
    "disk-full": (disk.full, ("disk-full",)),
    "disk-read-only": (disk.read_only, ("disk-read-only",)),
    "clock": (clock.jumps, ("clock",)),
    "load-30-fps": (loads.steady, ("load-30-fps",)),
    "load-beyond": (loads.beyond, ("load-beyond",)),
    "many-verdicts": (loads.many, ("many-verdicts",)),
}
"""What is run at once, and the rows that come of it, in the order of the report."""


def main() -> int:
    """Run what is asked for; return 0 where every row holds its bars."""
    options = _options()
    counts = _counts(options)
    # What asks this program to end must find the way through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = {} if options.fresh else {row.name: row for row in read_rows(options.out)}
    for name in options.scenarios or SCENARIOS:
        run, made = SCENARIOS[name]
        if all(row in rows and rows[row].counts == counts.name for row in made):
            print(f"{name}: is in {options.out} already", flush=True)
            continue
        for row in _measured(name, run, made, counts, options.scratch):
            rows[row.name] = row
            print(f"{row.name}: {'held' if row.held else 'MISSED'}", flush=True)
        ordered = [rows[row] for _, names in SCENARIOS.values() for row in names if row in rows]
        write_report(options.out, ordered, machine())
    return 0 if all(row.held for row in rows.values()) else 1


def _measured(
    name: str,
    run: Callable[[Path, Counts], list[Row]],
    made: tuple[str, ...],
    counts: Counts,
    scratch: Path | None,
) -> list[Row]:
    """Run a scenario; one that cannot be brought to its end misses its bars, and says why."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{name}-", dir=scratch))
    begun = time.monotonic()
    try:
        rows = run(folder, counts)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 -- whatever a scenario meets must not cost the rows of the others
        traceback.print_exc()
        bar = Bar(text="comes to its end", measured=f"{error}", held=False)
        rows = [Row(name=row, fault=row, counts=counts.name, bars=[bar]) for row in made]
    seconds, commit = time.monotonic() - begun, _commit()
    rows = [row.model_copy(update={"seconds": seconds, "commit": commit}) for row in rows]
    if all(row.held for row in rows):
        shutil.rmtree(folder)
    else:
        print(f"{name}: logs and lists are kept in {folder}", flush=True)
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--counts", choices=list(SIZES), default="chaos")
    parser.add_argument("--set", action="append", default=[], metavar="COUNT=N", help="for a try")
    parser.add_argument("--out", type=Path, required=True, help="the report; its page beside it")
    parser.add_argument("--scratch", type=Path, help="where stations are made; default: /tmp")
    parser.add_argument("--fresh", action="store_true", help="keep no row of the report")
    return parser.parse_args()


def _counts(options: argparse.Namespace) -> Counts:
    changes = dict(item.split("=", 1) for item in options.set)
    size = SIZES[options.counts]
    if not changes:
        return size
    kinds = {field.name: type(getattr(size, field.name)) for field in fields(size)}
    return replace(size, name="try", **{name: kinds[name](n) for name, n in changes.items()})


def machine() -> str:
    """Return what the figures were measured on."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{len(cpus)} x {cpus[0] if cpus else 'unknown processor'}, Python {version}"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
