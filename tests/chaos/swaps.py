"""`python -m chaos.swaps --out docs/swaps.json [--counts soak]`: swap after swap, under load.

The demo's bundle under two versions, in turns, on the engine that is the fastest here, while a
sender offers numbered parts to two cameras; see `chaos.sender`. The agent's processes run without
their supervisor: nothing decides about bundles but this program. A row that the report has already,
with the same counts, is kept.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from chaos.lines import LinesReader
from chaos.loads import p99
from chaos.memory import own_mib
from chaos.report import Bar, Row, at_most, details, read_rows, write_rows
from chaos.running import machine, measured, sized
from chaos.sender import Plan
from ssn_agent.atomic import write_atomically
from support.bare_station import START_S, BareStation, bare_station
from support.followed import CHANNEL, Swap, renewed, stored, swap
from support.mosquitto import Mosquitto, free_port

NAME = "swaps"
FOLLOW = "demo"
CAMERAS = ("left", "right")
WINDOW = 10
"""Over so many swaps the memory's median is taken."""

_VERDICTS = """
SELECT camera, epoch, sequence, reason, bundle_digest, latency_ms, triggered_at
FROM streams JOIN triggers ON stream_id = streams.id
LEFT JOIN verdicts ON verdicts.trigger_id = triggers.id ORDER BY camera, sequence
"""


@dataclass(frozen=True)
class Counts:
    """The size of a run."""

    name: str
    swaps: int
    settled_after: int
    """Swaps after which the memory is the one that must not grow."""
    pause_s: float
    """Between two swaps: parts without one, to compare with."""
    fps: float
    """Of each camera."""


SIZES = {
    "chaos": Counts("chaos", 50, 20, 1.0, 10.0),
    "soak": Counts("soak", 1000, 50, 1.0, 10.0),
}


@dataclass(frozen=True)
class Judged:
    """A verdict."""

    key: tuple[str, str, int]
    reason: str | None
    digest: str | None
    latency_ms: float | None
    triggered_at: float


def run(folder: Path, counts: Counts) -> list[Row]:
    """Swap, and compare the sender's lists with the ledger."""
    with resources.as_file(resources.files("ssn_agent.demo") / "demo-1.0.0.ssn") as demo:
        paths = [renewed(demo, folder / f"demo-{v}.ssn", v) for v in ("1.0.1", "1.0.2")]
    broker = Mosquitto(free_port(), folder)
    cameras: dict[str, dict[str, Any]] = {
        name: {
            "source": {"kind": "zeromq", "bind": f"ipc://{{runtime}}/{name}.bind"},
            "bundle": paths[0],
            "follow": FOLLOW,
            "heatmap": "none",
            "fitness": {"checks": [], "frozen_after": 0},
        }
        for name in CAMERAS
    }
    broker.start()
    settings = {"broker": {"port": broker.port}, "channel": {**CHANNEL, "bundles": [FOLLOW]}}
    try:
        with bare_station(folder, cameras, **settings) as station:
            station.start()
            bundles = [stored(path) for path in paths]
            for number in (1, 0):  # the engines of both are tried before anything is measured
                swap(station.settings, FOLLOW, bundles[number], bundles[1 - number])
            with _offering(station, folder, counts):
                time.sleep(counts.pause_s)
                swaps, memory = [], []
                for number in range(1, counts.swaps + 1):
                    to, before = bundles[number % 2], bundles[1 - number % 2]
                    swaps.append(swap(station.settings, FOLLOW, to, before))
                    time.sleep(counts.pause_s)
                    memory.append(own_mib(psutil.Process(station.inference)))
            station.stop()
            verdicts = [_judged(row) for row in station.query(_VERDICTS)]
    finally:
        broker.kill()
    return [row_of(counts, folder, verdicts, swaps, memory)]


class _offering:  # noqa: N801 -- used as a context manager
    """The sender, at work in the block."""

    def __init__(self, station: BareStation, folder: Path, counts: Counts) -> None:
        binds = {
            name: camera.source.bind
            for name, camera in station.settings.cameras.items()
            if camera.source.kind == "zeromq"
        }
        plan = folder / "plan.json"
        sent = Plan(binds=binds, fps=counts.fps, height=480, width=640)
        plan.write_text(sent.model_dump_json())
        self._command = [sys.executable, "-m", "chaos.sender", str(plan), str(folder)]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(START_S)


def _judged(row: Any) -> Judged:
    camera, epoch, sequence, reason, digest, latency_ms, triggered = row
    at = datetime.fromisoformat(triggered).replace(tzinfo=timezone.utc).timestamp()
    return Judged((camera, epoch, sequence), reason, digest, latency_ms, at)


def row_of(
    counts: Counts,
    folder: Path,
    verdicts: list[Judged],
    swaps: list[Swap],
    memory: list[float],
) -> Row:
    """Compare the sender's lists in `folder` with the verdicts; `memory` in MiB, a swap each."""
    offered = {line["id"] for line in LinesReader(folder / "offered.jsonl").read()}
    answers = LinesReader(folder / "answers.jsonl").read()
    taken = {line["id"]: _key(line) for line in answers if line["status"] == "accepted"}
    there = Counter(v.key for v in verdicts if v.latency_ms is not None)
    lost = [name for name in offered if there[taken.get(name, ("", "", 0))] != 1]
    invalid = Counter(v.reason for v in verdicts if v.reason is not None)
    spans = [(one.wanted_at, one.noted_at) for one in swaps]
    during, beside = _latencies(verdicts, spans)
    early = median(memory[counts.settled_after :][:WINDOW])
    late = median(memory[-WINDOW:])
    took = [one.noted_at - one.wanted_at for one in swaps]
    strange = {v.digest for v in verdicts if v.reason is None} - {one.digest for one in swaps}
    figures = {
        "swap_median_s": median(took),
        "swap_worst_s": max(took),
        "latency_during_swaps_median_ms": median(during),
        "latency_during_swaps_p99_ms": p99(during),
        "latency_during_swaps_worst_ms": max(during),
        "latency_without_median_ms": median(beside),
        "latency_without_p99_ms": p99(beside),
        "latency_without_worst_ms": max(beside),
        "memory_once_settled_mib": early,
        "memory_at_the_end_mib": late,
    }
    gaps = sum(
        max(numbers) - min(numbers) + 1 - len(numbers)
        for numbers in ([v.key[2] for v in verdicts if v.key[0] == name] for name in CAMERAS)
    )
    bars = [
        at_most("lost", len(lost), 0),
        at_most("gaps in the numbers", gaps, 0),
        at_most("INVALID(late)", invalid["late"], 0),
        at_most("INVALID of any reason", sum(invalid.values()), 0),
        Bar(text="only the two bundles judge", measured=f"{len(strange)} others", held=not strange),
        at_most("memory's growth", 100 * (late / early - 1), 5.0, " %"),
    ]
    return Row(
        name=NAME,
        fault=f"{counts.swaps} swaps, 2 cameras of 640 x 480 at {counts.fps:g} fps",
        counts=counts.name,
        times=counts.swaps,
        offered=len(offered),
        triggers=len(verdicts),
        verdicts=sum(there.values()),
        invalid={str(reason): n for reason, n in invalid.items()},
        lost=len(lost),
        gaps=gaps,
        figures=figures,
        bars=bars,
        notes=[
            "latency: from trigger to decision",
            "during a swap: of parts triggered after it was decided and before it was noted",
            f"memory: USS of inference, median over {WINDOW} swaps",
        ],
    )


def _latencies(
    verdicts: list[Judged], spans: list[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Return those of parts that came during a swap, and of the others between the swaps."""
    during: list[float] = []
    beside: list[float] = []
    begin, end = spans[0][0] - 1, spans[-1][1] + 1
    for verdict in verdicts:
        if verdict.latency_ms is None or not begin <= verdict.triggered_at <= end:
            continue
        is_during = any(start <= verdict.triggered_at <= stop for start, stop in spans)
        (during if is_during else beside).append(verdict.latency_ms)
    return during, beside


def _key(line: dict[str, Any]) -> tuple[str, str, int]:
    return line["id"].split("-")[1], line["epoch"].replace("-", ""), line["sequence"]


def page(rows: list[Row], on: str) -> str:
    """Return the report in Markdown."""
    lines = [
        "# Bundles that swap under load",
        "",
        "Made from `swaps.json`, which `python -m chaos.swaps` writes (`make soak-swaps`). The",
        "demo's bundle under two versions takes over from itself, in turns, while a sender offers",
        "numbered parts over ZeroMQ and keeps its own list of them.",
        "",
        f"Machine: {on}.",
        "",
    ]
    for row in rows:
        counted = f"{row.offered} parts offered, {row.verdicts} verdicts, {row.lost} lost"
        lines += [*details(row)[:-1], f"- {counted}, INVALID: {json.dumps(row.invalid)}", ""]
    return "\n".join(lines)


def main() -> int:
    """Run it; return 0 where the row holds its bars."""
    parser = argparse.ArgumentParser(prog="chaos.swaps", description=__doc__.splitlines()[0])
    parser.add_argument("--counts", choices=list(SIZES), default="chaos")
    parser.add_argument("--set", action="append", default=[], metavar="COUNT=N", help="for a try")
    parser.add_argument("--out", type=Path, required=True, help="the report; its page beside it")
    parser.add_argument("--scratch", type=Path, help="where the station is made; default: /tmp")
    parser.add_argument("--fresh", action="store_true", help="keep no row of the report")
    options = parser.parse_args()
    counts = sized(SIZES, options.counts, options.set)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = [] if options.fresh else read_rows(options.out)
    if any(row.counts == counts.name for row in rows):
        print(f"{NAME}: is in {options.out} already", flush=True)
    else:
        rows = measured(NAME, lambda path: run(path, counts), (NAME,), counts.name, options.scratch)
        write_rows(options.out, rows, machine())
        write_atomically(options.out.with_suffix(".md"), page(rows, machine()).encode())
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
