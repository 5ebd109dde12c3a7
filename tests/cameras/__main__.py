"""`python -m cameras --out docs/cameras.json [--counts soak] [DRIVER | DRIVER-ROW ...]`.

Runs each driver's rows one after the other, and writes the report after each. Rows that the report
has already, with the same counts, are kept: a run that was cut off goes on where it was.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from cameras.counts import SIZES, Counts
from cameras.drivers import DRIVERS, Driver
from cameras.report import page
from cameras.rows import ROWS
from chaos.report import Row, read_rows, write_rows
from chaos.running import machine, measured, sized
from ssn_agent.atomic import write_atomically


def main() -> int:
    """Run what is asked for; return 0 where every row holds its bars."""
    options = _options()
    counts = sized(SIZES, options.counts, options.set)
    # What asks this program to end must find the way through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = {} if options.fresh else {row.name: row for row in read_rows(options.out)}
    for name, driver, kind in _asked(options.rows, counts):
        if name in rows and rows[name].counts == counts.name:
            print(f"{name}: is in {options.out} already", flush=True)
            continue

        def run(folder: Path, driver: Driver = driver, kind: str = kind) -> list[Row]:
            return [ROWS[kind](driver, counts, folder)]

        (row,) = measured(name, run, [name], counts.name, options.scratch)
        rows[name] = row.model_copy(update={"name": name})
        print(f"{name}: {'held' if row.held else 'MISSED'}, {row.seconds:.0f} s", flush=True)
        ordered = [rows[name] for name in _names() if name in rows]
        write_rows(options.out, ordered, machine())
        write_atomically(_page_of(options.out), page(ordered, machine()).encode())
    return 0 if all(row.held for row in rows.values()) else 1


def _names() -> list[str]:
    return [f"{driver.name}-{kind}" for driver in DRIVERS.values() for kind in _kinds(driver)]


def _kinds(driver: Driver) -> list[str]:
    return [kind for kind in ROWS if kind in driver.rows]


def _asked(wanted: list[str], counts: Counts) -> Iterator[tuple[str, Driver, str]]:
    for driver in DRIVERS.values():
        for kind in _kinds(driver):
            name = f"{driver.name}-{kind}"
            if wanted and not {name, driver.name} & set(wanted):
                continue
            if kind == "wrapping" and not counts.wrap_frames:
                continue
            yield name, driver, kind


def _page_of(out: Path) -> Path:
    """Return the page's file; `docs/cameras.md` is another one."""
    return out.with_name(f"{out.stem}-soak.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cameras", description=__doc__.splitlines()[0])
    choices = [[], *DRIVERS, *_names()]
    parser.add_argument("rows", nargs="*", choices=choices, metavar="DRIVER | DRIVER-ROW")
    parser.add_argument("--counts", choices=list(SIZES), default="try")
    parser.add_argument("--set", action="append", default=[], metavar="COUNT=N", help="for a try")
    parser.add_argument("--out", type=Path, required=True, help="the report; its page beside it")
    parser.add_argument("--scratch", type=Path, help="where drivers run; default: /tmp")
    parser.add_argument("--fresh", action="store_true", help="keep no row of the report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
