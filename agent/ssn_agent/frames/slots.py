"""The pixel slots of one camera: a mapped file in which frames cross from capture to inference.

Nothing is noted here about who holds a slot: the journal says it. A slot is free once the record of
the frame that lies in it has a result.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ssn_agent.errors import ImageError, JournalError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels, format_of

SLOTS = 6
SLOT_BYTES = 64 * 2**20
"""Room for the largest frame; pages that are never touched take no memory."""


class PixelSlots:
    """A camera's mapped pixels."""

    def __init__(self, path: Path) -> None:
        """Map an existing file. Raises JournalError where it is not one of ours."""
        self.path = path
        try:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            msg = f"{path}: the pixel slots cannot be mapped ({error}); start the agent again"
            raise JournalError(msg) from error
        if len(self._map) != SLOTS * SLOT_BYTES:
            self._map.close()
            msg = f"{path}: has not the size of {SLOTS} pixel slots; delete it and start again"
            raise JournalError(msg)

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, where it is not there yet; it is sparse."""
        with path.open("ab") as file:
            file.truncate(SLOTS * SLOT_BYTES)

    def view(self, slot: int, height: int, width: int, pixel_format: PixelFormat) -> Pixels:
        """Return a slot as pixels, [H, W], or [H, W, C] where a pixel has several values."""
        channels = pixel_format.channels
        size = height * width * channels
        flat = np.frombuffer(self._map, np.uint8, size, slot * SLOT_BYTES)
        # flat [H * W * C] -> [H, W] or [H, W, C]
        return flat.reshape((height, width) if channels == 1 else (height, width, channels))

    def write(
        self, slot: int, frame: Pixels, pixel_format: PixelFormat | None = None
    ) -> tuple[int, int, PixelFormat]:
        """Copy a frame into a slot; return height, width and format (None: Mono8 or RGB8).

        Raises ImageError where the frame is too large, not of 8 bits, or not of its format.
        """
        wanted = format_of(frame) if pixel_format is None else pixel_format
        channels = 1 if frame.ndim == 2 else frame.shape[-1]
        if frame.dtype != np.uint8 or not frame.size or channels != wanted.channels:
            msg = f"a frame of {frame.dtype} {frame.shape} is said to be {wanted.name}"
            raise ImageError(f"{msg}; the driver is at fault")
        if frame.nbytes > SLOT_BYTES:
            msg = f"a frame of {frame.nbytes} bytes; up to {SLOT_BYTES} are taken"
            raise ImageError(msg)
        height, width = frame.shape[:2]
        self.view(slot, height, width, wanted)[...] = frame
        return height, width, wanted


class SlotOwners:
    """Which record's frame lies in which slot: capture's side, rebuilt from the journal."""

    def __init__(self, journal: Journal) -> None:
        """Take up the frames that inference has not finished with."""
        self._journal = journal
        self._owners: dict[int, int] = {}
        for entry in journal.entries(_waits_for_inference):
            if entry.captured is not None:
                self._owners[entry.captured.slot] = entry.sequence

    def take(self) -> int | None:
        """Return a free slot, or None where inference still has use for all of them."""
        return next(iter(self._free()), None)

    def give(self, slot: int, sequence: int) -> None:
        """Note that a record's frame now lies in the slot."""
        self._owners[slot] = sequence

    def _free(self) -> Iterable[int]:
        for slot in range(SLOTS):
            owner = self._owners.get(slot)
            entry = None if owner is None else self._journal.read(owner)
            if entry is None or entry.result is not None:
                yield slot


def _waits_for_inference(entry: Entry) -> bool:
    return entry.captured is not None and entry.captured.reason is None and entry.result is None
