"""`python -m chaos --out chaos-out/chaos.json [--counts soak] [SCENARIO ...]`, as root.

Makes the faults one after the other, each on a station of its own, and writes the report after
each. Rows that the report has already, with the same counts, are kept: a run that was cut off goes
on where it was. `--fresh` begins anew.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from chaos import broker, clock, disk, loads, processes
from chaos.counts import SIZES, Counts
from chaos.report import Row, read_rows, write_report
from chaos.running import machine, measured, sized

Scenario = Callable[[Path, Counts], list[Row]]
SCENARIOS: dict[str, tuple[Scenario, tuple[str, ...]]] = {
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
    counts = sized(SIZES, options.counts, options.set)
    # What asks this program to end must find the way through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = {} if options.fresh else {row.name: row for row in read_rows(options.out)}
    for name in options.scenarios or SCENARIOS:
        run, made = SCENARIOS[name]
        if all(row in rows and rows[row].counts == counts.name for row in made):
            print(f"{name}: is in {options.out} already", flush=True)
            continue

        def run_it(folder: Path, run: Scenario = run) -> list[Row]:
            return run(folder, counts)

        for row in measured(name, run_it, made, counts.name, options.scratch):
            rows[row.name] = row
            print(f"{row.name}: {'held' if row.held else 'MISSED'}", flush=True)
        ordered = [rows[row] for _, names in SCENARIOS.values() for row in names if row in rows]
        write_report(options.out, ordered, machine())
    return 0 if all(row.held for row in rows.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--counts", choices=list(SIZES), default="chaos")
    parser.add_argument("--set", action="append", default=[], metavar="COUNT=N", help="for a try")
    parser.add_argument("--out", type=Path, required=True, help="the report; its page beside it")
    parser.add_argument("--scratch", type=Path, help="where stations are made; default: /tmp")
    parser.add_argument("--fresh", action="store_true", help="keep no row of the report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
