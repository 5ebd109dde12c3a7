"""The life of a child process: rules alone, no process and no clock here.

    waiting ── started ──> starting ── first beat ──> running
       ^                      │                          │
       │                      ├── no beat in time, or ───┤
       │                      │   too much memory        v
       └──────── gone ────────┴────────────────────── killed

From each of them a child may come to its end, in order: `ended`. Times are seconds of the monotonic
clock.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

BACK_OFF_S = (0.1, 0.5, 1.0, 2.0)
"""Waits before a restart; the last one repeats. With a start of a second, the line's parts wait for
no more than 3 s."""
STEADY_S = 30.0
"""After this long without a death, the waits begin anew."""
START_S = 120.0
"""To the first beat: a machine that has too much to do may take a minute to load the libraries, and
a start that is cut off for that would be cut off again and again."""


class State(Enum):
    """Where in its life a child is."""

    WAITING = "waiting"
    """To be started: for the first time, or when its back-off is over."""
    STARTING = "starting"
    """Started, without a beat yet."""
    RUNNING = "running"
    """Beating."""
    KILLED = "killed"
    """Killed by us, and not gone yet: the kernel may wait for a driver or a disk."""
    ENDED = "ended"
    """Came to its end, in order."""


class Fault(Enum):
    """Why a child is replaced."""

    DIED = "died"
    HUNG = "hung"
    OVER_MEMORY = "over_memory"


@dataclass
class ChildRule:
    """One child's state, and what has become of those before it."""

    memory_bytes: int
    """More is a fault."""
    state: State = State.WAITING
    start_at: float = 0.0
    """While it waits: when it is to be started."""
    since: float = 0.0
    """When the state began."""
    faults: Counter[Fault] = field(default_factory=Counter)
    last_fault: Fault | None = None
    _recent: int = 0
    """Faults since it was last steady: they lengthen the back-off."""
    _started_at: float = 0.0
    _due_at: float = 0.0
    _slack_s: float = 0.0
    _queued_s: float = 0.0

    def is_due(self, now: float) -> bool:
        """Say whether it is to be started now."""
        return self.state is State.WAITING and now >= self.start_at

    def started(self, now: float) -> None:
        """Note a start."""
        self._enter(State.STARTING, now)
        self._started_at = now
        self._due_at, self._slack_s, self._queued_s = now + START_S, 0.0, 0.0

    def promised(self, now: float, due_at: float, queued_s: float) -> None:
        """Note by when the child's newest beat promises the next one.

        `queued_s` is how long it has waited for a processor since its start.
        """
        if due_at == self._due_at or self.state is State.KILLED:
            return
        self._due_at, self._slack_s, self._queued_s = due_at, 0.0, queued_s
        if self.state is State.STARTING:
            self._enter(State.RUNNING, now)

    def excuse(self, pause_s: float) -> None:
        """Note that the supervisor itself did not run for so long: so perhaps nobody did."""
        self._slack_s += pause_s

    def fault(self, now: float, queued_s: float, used_bytes: int) -> Fault | None:
        """Return what is wrong with a child that lives, if anything is.

        Time in which it waited for a processor is not held against it: on a machine that has too
        much to do, to start it again would be more to do.
        """
        if self.state not in {State.STARTING, State.RUNNING}:
            return None
        if now > self._due_at + self._slack_s + queued_s - self._queued_s:
            return Fault.HUNG
        if used_bytes > self.memory_bytes:
            return Fault.OVER_MEMORY
        return None

    def killed(self, now: float, fault: Fault) -> None:
        """Note that it is being killed, and why."""
        self._enter(State.KILLED, now)
        self.last_fault = fault

    def gone(self, now: float) -> float:
        """Note that its process is gone; return how long to wait before the next start."""
        if self.state is not State.KILLED:
            self.last_fault = Fault.DIED
        if self.last_fault is not None:
            self.faults[self.last_fault] += 1
        if now - self._started_at >= STEADY_S:
            self._recent = 0
        wait_s = BACK_OFF_S[min(self._recent, len(BACK_OFF_S) - 1)]
        self._recent += 1
        self._enter(State.WAITING, now)
        self.start_at = now + wait_s
        return wait_s

    def ended(self, now: float) -> None:
        """Note that it came to its end."""
        self._enter(State.ENDED, now)

    def is_unsteady(self, now: float) -> bool:
        """Say whether it was replaced and has not run steadily since."""
        if self.last_fault is None or self.state is State.ENDED:
            return False
        return self.state is not State.RUNNING or now - self._started_at < STEADY_S

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
