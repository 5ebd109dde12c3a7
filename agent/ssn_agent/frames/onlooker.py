"""Copies frames out of a camera's pixel slots for somebody who has no say in who holds them."""

from dataclasses import dataclass

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.slots import PixelSlots


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
        if head <= after:
            return None
        before = self._journal.read(head)
        if before is None or before.captured is None or before.captured.reason is not None:
            return None
        captured = before.captured
        size = captured.height, captured.width
        pixels = self._slots.view(captured.slot, *size, captured.pixel_format).copy()
        entry = self._journal.read(head)
        if entry is None or entry.captured != captured or entry.result is not None:
            return None  # with a result the slot is free, and may be written
        return Seen(head, pixels, entry)
