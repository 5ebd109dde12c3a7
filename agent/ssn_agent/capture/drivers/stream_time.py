"""When a stream's frames were taken, by the stream's own clock. Rules alone: no stream here.

A stream stamps each frame by a clock that starts anywhere; the host notes when it read the frame.
The difference, read less stamp, is the two clocks' offset and the frame's delay. The least delay is
always about the same, so the least difference is the offset: its lower envelope. What a frame is
above it is how long it was under way, or waited in a backlog.

1. What waits when a stream is opened comes faster than it was taken: nobody can tell its age.
2. A stamp is believed once the least differences of two windows, one after the other, agree: the
   clock goes as the host's does. Until then, and for a stream without such a clock, a frame is as
   old as its reading.
3. The envelope falls at once. It rises, from window to window, to what came with the least delay:
   clocks drift apart. It rises slowly: where all of a window comes late, that is a backlog.
4. A clock that goes back is another one: from the start.
"""

WINDOW_NS = 2_000_000_000
PACE = 0.01
"""By how much a clock may go wrong and be believed: more than any that counts time."""
RISE = 0.02
"""By how much the envelope may rise: it keeps up with every clock that is believed."""
LIVE = 0.75
"""A frame that was waited for less than this part of the time since the last one was taken waited
itself."""
BACKLOG_NS = 1_000_000_000
"""After this what comes is live, whatever the stamps say: reading what waits takes no longer."""
LATE_NS = 250_000_000
LATE_WINDOWS = 5
"""Of which no frame was less late than `LATE_NS`."""


class _Offset:
    """Between the clock of a stream and the host's, from the stamp on at which it began."""

    def __init__(self, difference: int, read: int) -> None:
        self.envelope: int | None = None
        self.late_windows = 0
        self._window_began = read
        self._least = difference
        self._least_before: int | None = None

    def late_by(self, difference: int, read: int) -> int:
        """Return by how much the next frame is above the envelope; 0 until there is one."""
        if read - self._window_began >= WINDOW_NS:
            self._end_window(read)
            self._least = difference
        self._least = min(self._least, difference)
        if self.envelope is None:
            return 0
        self.envelope = min(difference, self.envelope)
        return difference - self.envelope

    def _end_window(self, read: int) -> None:
        lasted = read - self._window_began
        if self.envelope is not None:
            late = self._least - self.envelope
            self.late_windows = self.late_windows + 1 if late > LATE_NS else 0
            self.envelope += min(late, int(RISE * lasted))
        elif self._least_before is not None:
            drift = abs(self._least - self._least_before)
            if drift <= PACE * lasted:
                self.envelope = self._least
        self._least_before = self._least
        self._window_began = read


class StreamTime:
    """The clock of one stream, from its opening on. All times are nanoseconds."""

    def __init__(self) -> None:
        self._offset: _Offset | None = None
        self._first_read: int | None = None
        self._last = (0, 0)

    @property
    def is_believed(self) -> bool:
        """Say whether frames have their time by the stream's own clock."""
        return self._offset is not None and self._offset.envelope is not None

    @property
    def falls_behind(self) -> bool:
        """Say whether frames have come late for long, and not only in a burst."""
        return self._offset is not None and self._offset.late_windows >= LATE_WINDOWS

    def age(self, stamp: int, read: int) -> int | None:
        """Return how long before it was read the next frame had come; None: nobody can tell."""
        (last_stamp, last_read), self._last = self._last, (stamp, read)
        if self._first_read is None:
            self._first_read = read
            return None
        if self._offset is None:
            taken = stamp - last_stamp
            is_live = taken > 0 and read - last_read >= LIVE * taken
            if not is_live and read - self._first_read < BACKLOG_NS:
                return None
        if self._offset is None or stamp < last_stamp:
            self._offset = _Offset(read - stamp, read)
        return self._offset.late_by(read - stamp, read)
