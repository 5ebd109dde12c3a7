"""Copies frames out of a camera's pixel slots for somebody who has no say in who holds them.

The shadow process looks at the frames that inference judges. It reads, takes no lock and writes
nothing: capture and inference cannot tell whether it is there. So a slot may be written while it is
copied, and only a copy that is certainly whole is handed out. Why that can be known:

- Capture does these for a frame, in this order: `accepted` of its record; pixels into a slot that
  is free; `captured` of its record, with the slot. So where `captured` is there, its pixels are.
- A slot is free where the last frame in it has a result (`slots.SlotOwners`, also in a capture
  process that takes over from a dead one). So **a frame without a result after the copy** was not
  touched during it.
- Frames go into slots in the order of their numbers: at most one trigger waits for its frame, those
  that come meanwhile get none (`capture.pairing`). So only a frame of a later number takes a slot
  over, and its `accepted` is there before its first pixel. **Where every later number had its
  `captured` before the copy, and no number was begun until after it**, nothing was written either.

What looks alike and is not taken for it:

- A trigger that waits for its frame: capture may be writing it, into any free slot.
- One that was closed as LOST: a capture process may have died while it wrote the pixels, and have
  left the slot half written.
- A number that the journal does not hold (any more), such as a spilled one: nothing is known of it.
- A record whose turn of the ring is over: it is read again after the copy, and must be the same.

A write of `accepted` that is under way counts: its number is looked at, whole or not, both in the
ring and among the spill records. As inference does, this relies on the processor's showing stores
in their order, or on the system calls and the thousands of instructions that lie between them.
"""

from dataclasses import dataclass

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.slots import PixelSlots
from ssn_contract.messages import InvalidReason


@dataclass(frozen=True)
class Seen:
    """A frame as it was judged, or is about to be."""

    sequence: int
    pixels: Pixels
    """A copy, [H, W] or [H, W, C], in the format that `entry.captured` says."""
    entry: Entry
    """As it was after the copy; its result may be still to come."""


class Onlooker:
    """Looks at one camera's frames, by mappings that are its own."""

    def __init__(self, journal: Journal, slots: PixelSlots) -> None:
        """Take a journal and slots that nobody else moves on."""
        self._journal = journal
        self._slots = slots

    def newest(self, after: int) -> Seen | None:
        """Copy the newest frame whose number is above `after`.

        None where there is none, or none that is certainly whole: ask again a little later.
        """
        head = self._journal.refresh()
        found = self._last_frame(after, head)
        if found is None:
            return None
        sequence, none_follows = found
        before = self._journal.read(sequence)
        if before is None or before.captured is None:
            return None
        captured = before.captured
        size = captured.height, captured.width
        pixels = self._slots.view(captured.slot, *size, captured.pixel_format).copy()
        # From here on, in this order: what a writer did before it touched the slot shows now.
        is_quiet = none_follows and not self._journal.is_begun(head + 1)
        entry = self._journal.read(sequence)
        if entry is None or entry.captured != captured:
            return None
        return Seen(sequence, pixels, entry) if is_quiet or entry.result is None else None

    def _last_frame(self, after: int, head: int) -> tuple[int, bool] | None:
        """Return the number of the newest frame, and whether none can be on its way into a slot."""
        none_follows = True
        for sequence in range(head, max(after, head - self._journal.header.capacity), -1):
            entry = self._journal.read(sequence)
            captured = None if entry is None else entry.captured
            if captured is not None and captured.reason is None:
                return sequence, none_follows
            if captured is None or captured.reason is InvalidReason.LOST:
                none_follows = False
        return None
