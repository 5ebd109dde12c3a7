"""Rows: loads without a fault, and a great many verdicts."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from chaos.counts import Counts
from chaos.memory import agent_memory_mib
from chaos.report import Bar, Row, at_least, at_most, witnessed
from chaos.rig import Rig, rig
from chaos.tally import tally, windows
from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from support.bundles import write_brightness_bundle
from support.waiting import wait_until

ENGINE: EngineName = "onnxruntime-cpu/fp32"
"""Pinned: the search for the fastest one takes its time beside serving, and is no load of these."""
PINNED = {"inference": {"engine": ENGINE}}
FRAME = {"height": 480, "width": 640}

_TO_PUBACK = """
SELECT part_id, (julianday(published_at) - julianday(triggered_at)) * 86400000
FROM outbox JOIN triggers ON triggers.id = outbox.trigger_id
WHERE payload IS NOT NULL AND published_at IS NOT NULL
"""


def steady(folder: Path, counts: Counts) -> list[Row]:
    """Four cameras at 30 frames a second, and a graph that costs about a millisecond."""
    row = Row(
        name="load-30-fps",
        fault="none: 4 cameras of 640 x 480 at 30 fps, a graph of about 1 ms",
        counts=counts.name,
    )
    folder.mkdir(parents=True, exist_ok=True)
    bundle = write_brightness_bundle(folder / "millisecond.ssn", steps=800)
    alone_s = 1 / scorer_alone(bundle, seconds=2.0)
    with rig(folder, cameras=4, bundle=bundle, top=PINNED) as station:
        station.start(30.0, **FRAME)
        begun_at = time.monotonic()
        time.sleep(counts.load_s)
        evidence = station.finish()
        measured = {part.id for part in windows(evidence.offered, [(begun_at, "")])[""]}
        delays = [ms for part, ms in station.agent.query(_TO_PUBACK) if part in measured]
        found = tally(evidence, [part for part in evidence.offered if part.id in measured])
    figures = {
        "graph_alone_ms": 1000 * alone_s,
        "trigger_to_puback_median_ms": float(np.median(delays)),
        "trigger_to_puback_p99_ms": p99(delays),
    }
    bars = [
        at_most("INVALID", sum(found.invalid.values()), 0),
        at_most("p99 from trigger to PUBACK", figures["trigger_to_puback_p99_ms"], 50.0, " ms"),
    ]
    return [witnessed(row.model_copy(update={"figures": figures, "bars": bars}), found)]


def beyond(folder: Path, counts: Counts) -> list[Row]:
    """Eight cameras that offer a little more than the scorer alone does."""
    row = Row(
        name="load-beyond",
        fault="none: 8 cameras of 640 x 480 offer 1.05 x what the scorer alone does",
        counts=counts.name,
        notes=[f"the demo's bundle on {ENGINE}, one image at a time, here and there"],
    )
    with resources.as_file(resources.files("ssn_agent.demo") / "demo-1.0.0.ssn") as bundle:
        alone = scorer_alone(bundle, seconds=min(10.0, counts.load_s))
        camera: dict[str, Any] = {"deadline_ms": 30_000, "heatmap": "none"}
        with rig(folder, cameras=8, bundle=bundle, top=PINNED, **camera) as station:
            station.truth_is_known = False
            station.start(1.05 * alone / 8, **FRAME)
            begun_at = time.monotonic()
            time.sleep(counts.load_s)
            seconds = time.monotonic() - begun_at
            evidence = station.finish()
    parts = windows(evidence.offered, [(begun_at, ""), (begun_at + seconds, "after")])[""]
    found = tally(evidence, parts)
    judged = found.verdicts - sum(found.invalid.values())
    share = judged / seconds / alone
    latencies = [ms for part, ms in station.latencies_ms.items() if part in {p.id for p in parts}]
    figures = {
        "scorer_alone_per_s": alone,
        "offered_per_s": len(parts) / seconds,
        "pass_and_fail_per_s": judged / seconds,
        "share_of_the_scorer_alone": share,
        "latency_of_the_judged_p99_ms": p99(latencies),
    }
    others = {reason: n for reason, n in found.invalid.items() if reason != "overload"}
    bars = [
        at_least("PASS and FAIL, as a share of the scorer alone", share, 0.7),
        Bar(text="the rest is INVALID(overload)", measured=str(found.invalid), held=not others),
    ]
    return [witnessed(row.model_copy(update={"figures": figures, "bars": bars}), found)]


def many(folder: Path, counts: Counts) -> list[Row]:
    """A great many verdicts: does the memory grow, do commits become slower?"""
    row = Row(
        name="many-verdicts",
        fault=f"none: {counts.verdicts} verdicts, 4 cameras at {RATE / 4:.0f} fps",
        counts=counts.name,
        notes=[
            "memory: USS of all processes, median over the last 5 % against that from 10 to 15 %",
            "commit: from a decision's note in the journal to the note of its commit",
        ],
    )
    with rig(folder, cameras=4, top=PINNED, heatmap="none") as station:
        with commits(station) as watch:
            station.start(RATE / 4, height=32, width=32, parts=counts.verdicts // 4)
            memory = _run_to_the_end(station, watch, counts.verdicts)
        found = tally(station.finish())
    early = _memory_between(memory, counts.verdicts, 0.10, 0.15)
    late = _memory_between(memory, counts.verdicts, 0.95, 1.0)
    first = _between(watch.found_ms, 0.005, 0.02)
    last = _between(watch.found_ms, 0.985, 1.0)
    figures = {
        "memory_at_10_percent_mib": early,
        "memory_at_the_end_mib": late,
        "commit_p99_at_1_percent_ms": p99(first),
        "commit_p99_at_the_end_ms": p99(last),
    }
    bars = [
        at_most("memory's growth", 100 * (late / early - 1), 5.0, " %"),
        at_most("p99 of a commit at the end against that at 1 %", p99(last) / p99(first), 1.5),
    ]
    return [witnessed(row.model_copy(update={"figures": figures, "bars": bars}), found)]


RATE = 600.0
"""Of all cameras together, a second."""


class CommitWatch:
    """Measures commits from outside: the journals say when a verdict was decided, and committed."""

    def __init__(self, station: Rig) -> None:
        self.found_ms: list[float] = []
        self._files = RuntimeFiles(station.agent.runtime)
        self._cameras = station.cameras
        self._journals: dict[str, tuple[Journal, int]] = {}

    def look(self) -> None:
        """Take up what has been committed since."""
        for camera in self._cameras:
            if camera not in self._journals:
                if not self._files.journal(camera).exists():
                    continue
                opened = Journal(self._files.journal(camera))
                self._journals[camera] = (opened, opened.header.first)
            journal, sequence = self._journals[camera]
            while sequence <= journal.refresh():
                entry = journal.read(sequence)
                if entry is not None and entry.decision is None:
                    break
                if entry is not None and not entry.committed:
                    break
                if entry is not None and entry.decision is not None:
                    took = time.monotonic_ns() - entry.decision.decided_monotonic_ns
                    self.found_ms.append(took / 1e6)
                sequence += 1
            self._journals[camera] = (journal, sequence)

    def close(self) -> None:
        """Unmap the journals."""
        for journal, _ in self._journals.values():
            journal.close()


@contextmanager
def commits(station: Rig) -> Iterator[CommitWatch]:
    """Watch the commits of a station."""
    with closing(CommitWatch(station)) as watch:
        yield watch


def _run_to_the_end(station: Rig, watch: CommitWatch, verdicts: int) -> list[tuple[int, float]]:
    """Return (verdicts so far, memory in MiB), each second, until all verdicts are there."""
    found: list[tuple[int, float]] = []
    next_at = 0.0

    def all_there() -> bool:
        nonlocal next_at
        watch.look()
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + 1.0
            station.look()
            memory = agent_memory_mib(station.agent)
            found.append((len(watch.found_ms), sum(memory.values())))
        return len(watch.found_ms) >= verdicts

    wait_until(all_there, 5 * verdicts / RATE + 60, "not all verdicts")
    return found


def _memory_between(
    memory: list[tuple[int, float]], verdicts: int, start: float, end: float
) -> float:
    return median(mib for so_far, mib in memory if start <= so_far / verdicts <= end)


def _between(values: list[float], start: float, end: float) -> list[float]:
    return values[int(start * len(values)) : int(end * len(values))]


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return float(np.percentile(values, 99))


def scorer_alone(bundle: Path, seconds: float) -> float:
    """Return how many images of 640 x 480 the scorer does in a second, one at a time."""
    image = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
    scorer = Scorer(Bundle.open(bundle), engine=ENGINE)
    for _ in range(5):
        scorer.score(image)
    done, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        scorer.score(image)
        done += 1
    return done / (time.monotonic() - begun)
