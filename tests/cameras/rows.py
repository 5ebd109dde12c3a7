"""The rows of the report: a fault or a load, made of any driver that allows it."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from cameras.checks import (
    frame_ids_go_on,
    frames_are_judged_once,
    none,
    none_is_invented,
    triggers_have_their_frames,
)
from cameras.counts import Counts
from cameras.drivers import SIDE, Driver
from cameras.rig import Line, line
from chaos.memory import own_mib
from chaos.report import Bar, Row, at_least, at_most
from chaos.tally import summary
from ssn_agent.frames.notes import CameraState
from support.waiting import wait_until

RECOVERY_S, TRIGGERED_RECOVERY_S = 5.0, 10.0
"""Frames again within this, after the counterpart answers again."""
AWAY_S = (0.0, 0.3, 8.0, 0.7, 1.2)
"""How long it is away, in turn: also while it is just being opened again, and until that is tried
more seldom."""
ANNOUNCE_S = 0.2
"""Between parts while the counterpart is away."""
DEADLINE_MS = 1000.0
"""Of a triggered camera."""
AT_ONCE_MS = 100.0
"""For what an overrun part's record may take to be closed, as the consumer sees it."""
LATE_BEAT_S = 1.0
"""A heartbeat so much overdue would have had the supervisor replace the process."""
BURST_EVERY = 20
LOSSES_PER_THOUSAND = (1, 10)
STEADY_FRAMES = 10_000
"""Before so many a process still takes memory that it keeps."""
FROZEN_S = 2.0
"""How long a counterpart stands still after that was noticed."""


def killed(driver: Driver, counts: Counts, folder: Path, *, triggered: bool = False) -> Row:
    """Kill the counterpart and start it again, while frames come."""
    mode = "triggered, " if triggered else ""
    row = _row(driver, counts, f"{mode}its counterpart killed and started again", counts.kills)
    limit_s = TRIGGERED_RECOVERY_S if triggered else RECOVERY_S
    times_s = []
    with line(driver, folder, triggered=triggered, deadline_ms=DEADLINE_MS) as rig:
        rig.start()
        with rig.announcing(ANNOUNCE_S):
            for number in range(counts.kills):
                rig.wait_for_frame(time.monotonic_ns())
                rig.counterpart.kill()
                time.sleep(AWAY_S[number % len(AWAY_S)])
                rig.counterpart.start()
                times_s.append(_until_a_frame(rig))
        rig.settle()
        return _summed(row, rig, [at_most("worst recovery", max(times_s), limit_s, " s")], times_s)


def frozen(driver: Driver, counts: Counts, folder: Path, *, triggered: bool = False) -> Row:
    """Stop the counterpart where it stands: noticed by the camera's state, or by the deadline."""
    mode = "triggered, " if triggered else ""
    row = _row(driver, counts, f"{mode}its counterpart frozen (SIGSTOP)", counts.freezes)
    noticed_s, times_s = [], []
    with line(driver, folder, triggered=triggered, deadline_ms=DEADLINE_MS) as rig:
        rig.start()
        for _ in range(counts.freezes):
            rig.wait_for_frame(time.monotonic_ns())
            frozen_at = time.monotonic()
            rig.counterpart.freeze()
            try:
                noticed_s.append(_until_noticed(rig, frozen_at))
                time.sleep(FROZEN_S)
            finally:
                rig.counterpart.thaw()
            times_s.append(_until_a_frame(rig))
        rig.settle()
        limit_s = DEADLINE_MS / 1000 + 0.5 if triggered else driver.noticed_s
        recovery_s = TRIGGERED_RECOVERY_S if triggered else RECOVERY_S
        bars = [
            at_most("noticed within", max(noticed_s), limit_s, " s"),
            at_most("worst recovery", max(times_s), recovery_s, " s"),
        ]
        row = _with_figures(row, {"noticed_median_s": median(noticed_s)})
        return _summed(row, rig, bars, times_s)


def lossy(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Lose packets on the way: what came incomplete is counted, and never judged."""
    assert driver.make_lossy is not None
    shares = " and ".join(f"{lost / 10:g} %" for lost in LOSSES_PER_THOUSAND)
    row = _row(driver, counts, f"{shares} of the packets lost, {counts.loss_s:g} s each", 1)
    for lost in LOSSES_PER_THOUSAND:
        make = partial(driver.make_lossy, lost_per_thousand=lost)
        with line(replace(driver, make=make), folder) as rig:
            rig.start()
            time.sleep(counts.loss_s)
            rig.counterpart.kill()  # what is counted and what is closed are the same from here on
            wait_until(lambda: rig.state is CameraState.FAULTY, 60, "its end is not noticed")
            rig.settle()
            found, name = rig.intake, f"at_{lost / 10:g}_percent".replace(".", "_")
            unreadable = sum(seen.reason == "unreadable" for seen in rig.seen)
            figures = {
                f"received_{name}": float(found.received_frames),
                f"incomplete_{name}": float(found.incomplete_frames),
                f"missed_{name}": float(found.missed_frames),
            }
            other = abs(found.incomplete_frames - unreadable)
            bars = [none("incomplete frames that are not INVALID(unreadable)", other)]
            row = _summed(_with_figures(row, figures), rig, bars)
    return row


def failing(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Have the camera fail buffers: each of them is one INVALID."""
    assert driver.fail is not None
    row = _row(driver, counts, f"{counts.failed} buffers made to fail", counts.failed)
    with driver.make(folder) as counterpart:
        source = driver.fail(counterpart.source, counts.failed)
    with line(driver, folder, **source) as rig:
        rig.start()
        wait_until(lambda: len(rig.good) >= 20, 60, "too few frames")
        rig.settle()
        invalid = len(rig.seen) - len(rig.good)
        found = f"{invalid} of {counts.failed}"
        bar = Bar(text="as many INVALID", measured=found, held=invalid == counts.failed)
        return _summed(row, rig, [bar])


def wrapping(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Run until the device's frame ids have begun again."""
    row = _row(driver, counts, f"frame ids that begin again, within {counts.wrap_frames} frames", 1)
    with line(driver, folder, full_rate=True) as rig:
        rig.start()
        wait_until(
            lambda: len(rig.seen) >= counts.wrap_frames, counts.wrap_frames / 20, "too few frames"
        )
        rig.settle()
        ids = [seen.frame_id for seen in rig.good if seen.frame_id is not None]
        wraps = sum(later < earlier for earlier, later in pairwise(ids))
        bars = [
            at_least("times that they began again", wraps, 1),
            none("frames said to be lost", rig.intake.missed_frames),
            none("reconnects", rig.intake.reconnects),
        ]
        return _summed(row, rig, bars)


def full_rate(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Take what the counterpart gives at its full rate, with one processor for capture."""
    cpu = min(os.sched_getaffinity(0))
    row = _row(
        driver, counts, f"none: {SIDE} x {SIDE} at full rate, {counts.rate_s:g} s, one core", 1
    )
    with line(driver, folder, full_rate=True) as rig:
        rig.start(before=f"import os; os.sched_setaffinity(0, {{{cpu}}})")
        process = psutil.Process(rig.capture.pid)
        begun_at, begun_cpu, first = time.monotonic(), _cpu_s(process), len(rig.seen)
        time.sleep(counts.rate_s)
        seconds = time.monotonic() - begun_at
        cpu_s, frames = _cpu_s(process) - begun_cpu, len(rig.seen) - first
        rig.settle()
        figures = {
            "frames_per_s": frames / seconds,
            "capture_cpu_ms_per_frame": 1000 * cpu_s / max(1, frames),
        }
        reasons = Counter(seen.reason for seen in rig.seen)
        bars = [
            at_least("frames", frames, 1),
            none("frames without a slot", reasons["overload"]),
            none(
                "frames that the device has counted and capture has not", rig.intake.missed_frames
            ),
            none("frames that were discarded", rig.intake.discarded_frames),
        ]
        return _summed(_with_figures(row, figures), rig, bars)


def triggers(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Announce parts one after the other, and now and then three in quick succession."""
    row = _row(driver, counts, "none: parts announced by their ids", counts.triggers)
    overruns_ms: list[float] = []
    took_ms: list[float] = []
    with line(driver, folder, triggered=True) as rig:
        assert rig.announcer is not None
        rig.start()
        rig.settle()
        before, first = len(rig.seen), len(rig.announcer.asked)
        while len(rig.announcer.asked) - first < counts.triggers:
            if (len(rig.announcer.asked) - first) % BURST_EVERY:
                asked = rig.ask()
                took_ms.append((rig.wait_closed(asked.id).closed_ns - asked.sent_ns) / 1e6)
                continue
            burst = [rig.announcer.ask() for _ in range(3)]
            closed = [rig.wait_closed(asked.id) for asked in burst]
            overruns_ms += [
                (seen.closed_ns - seen.triggered_ns) / 1e6
                for seen in closed
                if seen.reason == "overrun"
            ]
        rig.settle()
        row = row.model_copy(
            update={
                "times": len(rig.announcer.asked) - first,
                "figures": {
                    "trigger_to_frame_median_ms": median(took_ms),
                    "trigger_to_frame_worst_ms": max(took_ms),
                    "overruns": float(len(overruns_ms)),
                },
            }
        )
        other = {seen.reason for seen in rig.seen[before:]} - {None, "overrun"}
        bars = [Bar(text="INVALID only where overrun", measured=f"{other or 0}", held=not other)]
        bars += frame_ids_go_on(rig.seen[before:])
        if overruns_ms:
            bars.append(at_most("overruns closed within", max(overruns_ms), AT_ONCE_MS, " ms"))
        return _summed(row, rig, bars)


def memory(driver: Driver, counts: Counts, folder: Path) -> Row:
    """Take a great many frames, and open the camera again many times."""
    reconnects = counts.reconnects if "killed" in driver.rows else 0
    row = _row(driver, counts, f"none: {counts.frames} frames, {reconnects} reconnects", 1)
    found: list[tuple[float, float]] = []
    with line(driver, folder) as rig:
        rig.start()
        process = psutil.Process(rig.capture.pid)
        done = 0
        while len(rig.seen) < counts.frames or done < reconnects:
            progress = min(1.0, len(rig.seen) / counts.frames)
            found.append((progress, own_mib(process)))
            if done < reconnects and progress >= done / reconnects:
                rig.counterpart.kill()
                rig.counterpart.start()
                _until_a_frame(rig)
                done += 1
            time.sleep(min(1.0, counts.frames / 2000))
        rig.settle()
        found.append((1.0, own_mib(process)))
        # The ids of the last 4096 parts are remembered: a fifth of the frames.
        early, late = _between(found, 0.25, 0.35), _between(found, 0.95, 1.0)
        figures = {"memory_at_25_percent_mib": early, "memory_at_the_end_mib": late}
        growth = at_most("memory's growth", 100 * (late / early - 1), 5.0, " %")
        bars = [growth] if counts.frames >= STEADY_FRAMES else []
        return _summed(_with_figures(row, figures), rig, bars)


Make = Callable[[Driver, Counts, Path], Row]


def _triggered(make: Callable[..., Row]) -> Make:
    return lambda driver, counts, folder: make(driver, counts, folder, triggered=True)


ROWS: dict[str, Make] = {
    "killed": killed,
    "killed-triggered": _triggered(killed),
    "frozen": frozen,
    "frozen-triggered": _triggered(frozen),
    "lossy": lossy,
    "failing": failing,
    "wrapping": wrapping,
    "full-rate": full_rate,
    "triggers": triggers,
    "memory": memory,
}
"""By the names that a driver's entry has them by, in the order of the report."""


def _row(driver: Driver, counts: Counts, fault: str, times: int) -> Row:
    return Row(name="", fault=f"{driver.name}: {fault}", counts=counts.name, times=times)


def _with_figures(row: Row, figures: dict[str, float]) -> Row:
    return row.model_copy(update={"figures": {**row.figures, **figures}})


def _until_a_frame(rig: Line) -> float:
    """Return how long it takes from now until a frame is judged that was taken from now on."""
    now_ns = time.monotonic_ns()
    return (rig.wait_for_frame(now_ns).closed_ns - now_ns) / 1e9


def _until_noticed(rig: Line, frozen_at: float) -> float:
    """Return when a camera that stands still was said to be faulty, or a trigger INVALID."""
    if rig.announcer is not None:
        return (rig.wait_closed(rig.announcer.ask().id).closed_ns / 1e9) - frozen_at
    wait_until(lambda: rig.state is CameraState.FAULTY, 60, "a frozen camera is not noticed")
    return time.monotonic() - frozen_at


def _between(found: list[tuple[float, float]], low: float, high: float) -> float:
    """Return the median of what was found there; in a try that may be what came next."""
    there = [mib for progress, mib in found if low <= progress <= high]
    return median(there) if there else next(mib for progress, mib in found if progress > high)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _summed(row: Row, rig: Line, bars: list[Bar], recovery_s: list[float] | None = None) -> Row:
    """Put into a row what holds for all of them."""
    seen, driver = list(rig.seen), rig.driver
    bars = [*bars, *frames_are_judged_once(seen)]
    if driver.times_slack_ms is not None:
        bars.append(none_is_invented(seen, rig.begun_ns, driver.times_slack_ms))
    if rig.announcer is not None:
        asked = rig.announcer.asked
        bars += triggers_have_their_frames(seen, asked, driver.times_slack_ms)
    bars.append(at_most("a heartbeat overdue", rig.consumer.late_beat_s, LATE_BEAT_S, " s"))
    reasons = Counter(record.reason for record in seen if record.reason is not None)
    return row.model_copy(
        update={
            "triggers": len(seen),
            "verdicts": len(rig.good),
            "invalid": dict(sorted((str(reason), n) for reason, n in reasons.items())),
            "recovery_s": summary(recovery_s or []),
            "figures": {**row.figures, "reconnects": float(rig.intake.reconnects)},
            "bars": [*row.bars, *bars],
        }
    )
