"""Rows: each process of the agent killed, and made to hang, at random moments."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from chaos.counts import Counts
from chaos.report import Row, at_most, witnessed
from chaos.rig import Rig, is_gone, rig, send
from chaos.tally import tally, windows
from ssn_agent.frames.heartbeat import BEAT_S, DISK_S
from ssn_agent.supervisor.child import ABORT_S
from support.waiting import wait_until

CAMERAS = 2
FPS = 15.0
"""Of each camera."""
BACK_WITHIN_S = 3.0
QUIET_S = (0.3, 1.5)
"""Between a recovery and the next fault: some moment of it."""
NOTICED_WITHIN_S = {"capture": BEAT_S + 1.0, "inference": BEAT_S, "ledger": DISK_S}
"""What the last heartbeat may have promised; capture's has the 1 s that its camera asks for."""
SLACK_S = ABORT_S + 1.0
"""From the broken promise to the end of the process: the supervisor's turns, and the abort."""

IN_TURN = (
    "the processes die in turn, in random order: one that dies again within 30 s waits longer "
    "before it is started, up to 2 s, and the supervisor's death begins that anew"
)


def kills(folder: Path, counts: Counts) -> list[Row]:
    """SIGKILL of each process in turn; one row a process, of the parts offered after its deaths."""
    targets = ["capture", "inference", "ledger", "supervisor"]
    recoveries: dict[str, list[float]] = {name: [] for name in targets}
    starts: list[tuple[float, str]] = []
    order = np.random.default_rng(1)
    with rig(folder, cameras=CAMERAS) as station:
        station.start(FPS)
        for target in in_random_order(targets, counts.kills, order):
            time.sleep(order.uniform(*QUIET_S))
            at, camera = kill(station, target, order)
            starts.append((at, target))
            recoveries[target].append(station.wait_for_recovery(at, camera))
        evidence = station.finish()
    parts = windows(evidence.offered, starts)
    return [
        witnessed(
            Row(
                name=f"kill-{name}",
                fault=f"SIGKILL of {name}",
                counts=counts.name,
                times=counts.kills,
                notes=[IN_TURN],
            ),
            tally(evidence, parts[name]),
            recoveries[name],
            within_s=BACK_WITHIN_S,
        )
        for name in targets
    ]


def kill(station: Rig, target: str, order: np.random.Generator) -> tuple[float, str | None]:
    """Kill a process; return when, and the camera that it cost."""
    if target == "supervisor":
        return station.restart_agent(), None
    camera = str(order.choice(station.cameras)) if target == "capture" else None
    return send(station.agent.child(target, camera).pid, signal.SIGKILL), camera


def hangs(folder: Path, counts: Counts) -> list[Row]:
    """SIGSTOP of each process in turn. The supervisor's is systemd's to notice."""
    targets = ["capture", "inference", "ledger"]
    noticed: dict[str, list[float]] = {name: [] for name in targets}
    recoveries: dict[str, list[float]] = {name: [] for name in targets}
    starts: list[tuple[float, str]] = []
    order = np.random.default_rng(2)
    with rig(folder, cameras=CAMERAS) as station:
        station.start(FPS)
        for target in in_random_order(targets, counts.hangs, order):
            time.sleep(order.uniform(*QUIET_S))
            camera = str(order.choice(station.cameras)) if target == "capture" else None
            pid = station.agent.child(target, camera).pid
            with resumed(pid):
                stopped_at = send(pid, signal.SIGSTOP)
                starts.append((stopped_at, target))
                wait_until(partial(is_gone, pid), 60, f"{target} is not replaced")
            gone_at = time.monotonic()
            noticed[target].append(gone_at - stopped_at)
            recoveries[target].append(station.wait_for_recovery(gone_at, camera))
        evidence = station.finish()
    parts = windows(evidence.offered, starts)
    return [
        witnessed(
            hang_row(name, counts, noticed[name]),
            tally(evidence, parts[name]),
            recoveries[name],
            within_s=BACK_WITHIN_S,
        )
        for name in targets
    ]


def hang_row(target: str, counts: Counts, noticed: list[float]) -> Row:
    """Return a row with what is known of a hang besides the witness's counts."""
    limit = NOTICED_WITHIN_S[target]
    return Row(
        name=f"hang-{target}",
        fault=f"SIGSTOP of {target}",
        counts=counts.name,
        times=len(noticed),
        bars=[at_most("noticed and killed", max(noticed), limit + SLACK_S, " s")],
        notes=[
            f"noticed within: {limit:g} s that a beat may promise, {ABORT_S:g} s to SIGKILL, 1 s",
            "recovery counts from the end of the stopped process",
        ],
    )


def in_random_order(targets: list[str], times: int, order: np.random.Generator) -> Iterator[str]:
    """Yield each target so many times: rounds of all of them, each shuffled."""
    for _ in range(times):
        yield from map(str, order.permutation(targets))


@contextmanager
def resumed(pid: int) -> Iterator[None]:
    """Let no stopped process outlive a row that fails."""
    try:
        yield
    finally:
        if not is_gone(pid):
            send(pid, signal.SIGCONT)
