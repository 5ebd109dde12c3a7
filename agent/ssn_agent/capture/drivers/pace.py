"""Keep to a rate."""

import time


class Pace:
    """Waits so that frames come at a given rate; None: no wait."""

    def __init__(self, fps: float | None) -> None:
        self._period_s = None if fps is None else 1.0 / fps
        self._next_s = 0.0

    def wait(self, wait_s: float) -> bool:
        """Sleep until the next frame is due; False where it is not within `wait_s`.

        After a delay the rate goes on from now.
        """
        if self._period_s is None:
            return True
        now = time.monotonic()
        if self._next_s > now + wait_s:
            time.sleep(wait_s)
            return False
        if self._next_s > now:
            time.sleep(self._next_s - now)
            self._next_s += self._period_s
        else:
            self._next_s = now + self._period_s
        return True
