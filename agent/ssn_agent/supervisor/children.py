"""When a child process starts again: rules alone, no process and no clock here."""

from dataclasses import dataclass

BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Waits before a restart; the last one repeats."""
STEADY_S = 30.0
"""After this long without a death, the waits begin anew."""


@dataclass
class RestartRule:
    """One child's deaths."""

    deaths: int = 0
    started_at: float = 0.0
    start_at: float | None = 0.0
    """When it is to be started; None while it runs or when it has come to its end."""

    def started(self, now: float) -> None:
        """Note a start."""
        self.started_at, self.start_at = now, None

    def died(self, now: float) -> float:
        """Note a death; return how long to wait before the next start."""
        if now - self.started_at >= STEADY_S:
            self.deaths = 0
        wait_s = BACK_OFF_S[min(self.deaths, len(BACK_OFF_S) - 1)]
        self.deaths += 1
        self.start_at = now + wait_s
        return wait_s
