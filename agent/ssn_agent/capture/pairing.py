"""Which frame belongs to which trigger. Rules alone: no clock, no file, no camera here.

For every camera whose triggers and frames come apart:

1. At most one trigger waits for its frame.
2. A trigger that comes while another one waits gets no frame: INVALID(overrun), at once. The one
   that waits goes on waiting.
3. A trigger whose deadline passes while it waits gets no frame: INVALID(late).
4. A frame is taken by its own trigger, while that one waits, and is discarded otherwise: too late,
   for a trigger that was overrun, or a second one. It is never given to another trigger.

5. A trigger whose camera fails while it waits gets no frame: INVALID(lost), at once.

A frame says which trigger it belongs to. How it knows is its source's business: an id that the
sender gave to both, or a camera that was asked for this one frame while nothing else was under way
(`capture.grabber`). A guess by the order of arrival would be wrong after every frame that is lost.
"""


class Pairing:
    """The trigger of one camera that waits for its frame."""

    def __init__(self) -> None:
        self._waiting: tuple[int, int] | None = None

    @property
    def waiting(self) -> int | None:
        """Return the sequence number of the trigger that waits, if one does."""
        return None if self._waiting is None else self._waiting[0]

    def trigger(self, sequence: int, deadline_ns: int) -> bool:
        """Take a new trigger, after `expire`; say whether it may have a frame (False: overrun)."""
        if self._waiting is not None:
            return False
        self._waiting = (sequence, deadline_ns)
        return True

    def frame(self, sequence: int, now_ns: int) -> bool:
        """Take the frame of a trigger; say whether it is to be used (False: discard it)."""
        if self._waiting is None or self._waiting[0] != sequence or now_ns > self._waiting[1]:
            return False
        self._waiting = None
        return True

    def expire(self, now_ns: int) -> int | None:
        """Return the trigger whose deadline has passed while it waited, once; None: there is none.

        To be called before what arrives is taken.
        """
        if self._waiting is None or now_ns <= self._waiting[1]:
            return None
        sequence, _ = self._waiting
        self._waiting = None
        return sequence

    def give_up(self) -> int | None:
        """Return the trigger that waits, once: it gets no frame. None: none waits."""
        waiting = self.waiting
        self._waiting = None
        return waiting
