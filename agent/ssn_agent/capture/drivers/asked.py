"""What sources from files have in common: they give the next picture at a rate, or when asked."""

import time

from ssn_agent.capture.drivers.pace import Pace


class Asked:
    """Says when the next picture is due."""

    def __init__(self, *, is_triggered: bool, pace: Pace) -> None:
        self._is_triggered = is_triggered
        self._is_asked = False
        self._pace = pace

    def arm(self) -> None:
        """Forget a trigger that has had no picture."""
        self._is_asked = False

    def trigger(self) -> None:
        """Let the next picture through."""
        self._is_asked = True

    def _is_due(self, wait_s: float) -> bool:
        """Wait for the next picture's turn; False where it has not come within `wait_s`."""
        if self._is_triggered and not self._is_asked:
            time.sleep(wait_s)
            return False
        if not self._pace.wait(wait_s):
            return False
        self._is_asked = False
        return True
