"""What comes out of a capture process, judged at once: inference and the ledger in a few lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ssn_agent.frames.journal import Entry
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.slots import PixelSlots
from ssn_contract.messages import InvalidReason
from support.capture import CaptureProcess
from support.records import judged

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Part(Generic[Seen]):
    """A part that capture has done with."""

    entry: Entry
    reason: InvalidReason | None
    seen: Seen | None
    """What its picture shows; None: it has none."""


class Judge(Generic[Seen]):
    """Looks at each part's picture, frees its slot, and closes its record."""

    def __init__(self, capture: CaptureProcess, look: Callable[[Pixels], Seen]) -> None:
        self._capture = capture
        self._slots = PixelSlots(capture.files.pixels("left"))
        self._look = look
        self.parts: dict[int, Part[Seen]] = {}
        """By their numbers, also those whose records are gone since."""

    def turn(self) -> dict[int, Part[Seen]]:
        """Judge what has come; return all parts so far."""
        for entry in self._capture.entries():
            if entry.captured is None or entry.sequence in self.parts:
                continue
            captured, seen = entry.captured, None
            if captured.reason is None:
                size = captured.height, captured.width, captured.pixel_format
                seen = self._look(self._slots.view(captured.slot, *size))
                self._capture.journal.finish(entry.sequence, judged(Outcome.PASS))
            self._capture.journal.commit(entry.sequence)
            self.parts[entry.sequence] = Part(entry, captured.reason, seen)
        return self.parts
