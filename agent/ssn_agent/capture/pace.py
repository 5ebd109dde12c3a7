"""Keep to a rate."""

import time


class Pace:
    """Waits so that frames come at a given rate; None: no wait."""

    def __init__(self, fps: float | None) -> None:
        self._period_s = None if fps is None else 1.0 / fps
        self._next_s = 0.0

    @property
    def longest_wait_s(self) -> float:
        """Return what `wait` takes at most."""
        return self._period_s or 0.0

    def wait(self) -> None:
        """Sleep until the next frame is due; after a delay the rate goes on from now."""
        if self._period_s is None:
            return
        now = time.monotonic()
        if self._next_s > now:
            time.sleep(self._next_s - now)
            self._next_s += self._period_s
        else:
            self._next_s = now + self._period_s
