"""When a frame was taken, by this machine's clocks, from the device's timestamp. No camera here.

A frame is read after it was taken, never before: of several, the one that was read the soonest
tells best how far the two clocks lie apart, and what others took longer they waited in a backlog.
"""

from ssn_agent.capture.camera import HostTime

WINDOW_NS = 10 * 10**9
"""Clocks drift: only frames of this window and the one before it tell."""
LONGEST_NS = 10 * 10**9
"""A frame that seems to have waited for longer shows that the device's clock was set."""
UNKNOWN = 2**64 - 1
"""What devices and libraries say of a number that they do not know, where they do not fail."""


def in_ns(ticks: int | None, ticks_per_s: int | None) -> int | None:
    """Return a device's timestamp in nanoseconds; None: it or the rate is 0, or not known."""
    if not ticks or ticks == UNKNOWN or not ticks_per_s:
        return None
    return ticks * 10**9 // ticks_per_s


class DeviceClock:
    """The clock of a device that is acquiring; a new one for each time that it is armed."""

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._now_ns = 0
        self._before_ns: int | None = None

    def taken(self, timestamp_ns: int | None, read: HostTime) -> HostTime:
        """Return when a frame was taken that was read at a moment; that, without a timestamp."""
        if timestamp_ns is None:
            return read
        apart_ns = read.monotonic_ns - timestamp_ns
        self._note(apart_ns, read.monotonic_ns)
        waited_ns = apart_ns - self._least_ns()
        if waited_ns > LONGEST_NS:
            self._began_ns = None
            self._note(apart_ns, read.monotonic_ns)
            return read
        return read.earlier(waited_ns)

    def _note(self, apart_ns: int, at_ns: int) -> None:
        age_ns = None if self._began_ns is None else at_ns - self._began_ns
        if age_ns is None or age_ns > WINDOW_NS:
            is_recent = age_ns is not None and age_ns <= 2 * WINDOW_NS
            self._before_ns = self._now_ns if is_recent else None
            self._now_ns, self._began_ns = apart_ns, at_ns
        self._now_ns = min(self._now_ns, apart_ns)

    def _least_ns(self) -> int:
        return self._now_ns if self._before_ns is None else min(self._now_ns, self._before_ns)
