"""The trigger journal of one camera: the truth about every part from trigger to committed verdict.

A ring of records in a mapped file (`frames.layout`). Each process writes its own regions and reads
the others'. What is in it outlives every process that wrote it.

A record is free again when its verdict is committed. A trigger that comes before that is spilled:
it gets its number and a record elsewhere, which is free again as soon as its INVALID(ledger) is
counted. So the numbers in the ring may have gaps.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import JournalError
from ssn_agent.frames import layout, notes
from ssn_agent.frames.layout import Accepted, Captured, Decision, Header, Result
from ssn_agent.frames.notes import CameraNote, IntakeNote, ModelNote, SpillNote


def boot_id() -> UUID:
    """Return the id of this boot of the machine: monotonic times mean nothing in another."""
    return UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())


@dataclass(frozen=True)
class Entry:
    """A record, read once. Later steps are None until they are there."""

    sequence: int
    accepted: Accepted
    captured: Captured | None
    result: Result | None
    decision: Decision | None
    committed: bool


class Journal:
    """A camera's mapped journal; `contextlib.closing` suits it."""

    def __init__(self, path: Path) -> None:
        """Map an existing journal. Raises JournalError where it is none of this layout."""
        self.path = path
        try:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            msg = f"{path}: the journal cannot be mapped ({error}); start the agent again"
            raise JournalError(msg) from error
        self._view = memoryview(self._map)
        size = len(self._view)
        header = None
        if size > layout.HEADER_BYTES:
            header = layout.unpack_header(self._view)
        if header is None or size != _file_bytes(header.capacity):
            self.close()
            msg = f"{path}: not a journal of layout {layout.LAYOUT_VERSION}, or damaged"
            raise JournalError(msg)
        self.header = header
        self.head = max(self._held(), default=header.first - 1)
        """The highest sequence number accepted; `first - 1` while there is none."""

    @classmethod
    def create(cls, path: Path, header: Header) -> "Journal":
        """Write an empty journal, whole or not at all, and map it. Raises OSError, JournalError."""
        empty = layout.pack_header(header).ljust(_file_bytes(header.capacity), b"\0")
        write_atomically(path, empty)
        return cls(path)

    def close(self) -> None:
        """Unmap the file."""
        self._view.release()
        self._map.close()

    # Capture writes.

    def has_room(self) -> bool:
        """Say whether the next record is free: what it held is committed, or it held nothing."""
        return _is_free(self._ring_record(self.head + 1))

    def accept(self, trigger: Accepted) -> int:
        """Count a trigger and return its sequence number.

        Raises JournalError where the ring is full of verdicts that the ledger has not taken.
        """
        if not self.has_room():
            msg = f"{self.path}: full; the ledger has not taken {self.header.capacity} verdicts"
            raise JournalError(msg)
        return self._begin(self._ring_record(self.head + 1), trigger)

    def spill(self, trigger: Accepted) -> int:
        """Count a trigger for which the ring has no room, and return its sequence number.

        Raises JournalError where the ledger process has not counted those before it either.
        """
        record = self._spill_record(self.head + 1)
        if not _is_free(record):
            msg = f"{self.path}: full; the ledger process counts no triggers any more"
            raise JournalError(msg)
        return self._begin(record, trigger)

    def capture(self, sequence: int, value: Captured) -> None:
        """Note a trigger's frame, or why it has none."""
        self._write(sequence, layout.CAPTURED_AT, layout.pack_captured(sequence, value))

    def note_camera(self, note: CameraNote) -> None:
        """Say how the camera is."""
        region = notes.pack_camera_note(note)
        self._view[layout.CAMERA_NOTE_AT : layout.CAMERA_NOTE_AT + len(region)] = region

    def note_intake(self, note: IntakeNote) -> None:
        """Say what was not taken."""
        region = notes.pack_intake_note(note)
        self._view[layout.INTAKE_NOTE_AT : layout.INTAKE_NOTE_AT + len(region)] = region

    # Inference writes.

    def note_model(self, note: ModelNote) -> None:
        """Say what judges."""
        region = notes.pack_model_note(note)
        self._view[layout.MODEL_NOTE_AT : layout.MODEL_NOTE_AT + len(region)] = region

    def finish(self, sequence: int, value: Result) -> None:
        """Note what the model made of a frame; its pixel slot is free from here on."""
        self._write(sequence, layout.RESULT_AT, layout.pack_result(sequence, value))

    # The ledger process writes.

    def decide(self, sequence: int, value: Decision) -> None:
        """Note the one verdict, before the database has it."""
        self._write(sequence, layout.DECISION_AT, layout.pack_decision(sequence, value))

    def commit(self, sequence: int) -> None:
        """Note that the database has the verdict."""
        self._write(sequence, layout.COMMITTED_AT, layout.pack_committed(sequence))

    def note_spill(self, note: SpillNote) -> None:
        """Say how many verdicts were counted and not kept."""
        region = notes.pack_spill_note(note)
        self._view[layout.SPILL_NOTE_AT : layout.SPILL_NOTE_AT + len(region)] = region

    # Everyone reads.

    def spill_note(self) -> SpillNote:
        """Return how many verdicts were counted and not kept."""
        return notes.unpack_spill_note(self._view) or SpillNote()

    def is_spilled(self, sequence: int) -> bool:
        """Say whether a number's record lies outside of the ring."""
        ring, spill = self._ring_record(sequence), self._spill_record(sequence)
        return layout.number(ring) != sequence == layout.number(spill)

    def camera_note(self) -> CameraNote | None:
        """Return how the camera is, or None where nothing whole is noted at this moment."""
        return notes.unpack_camera_note(self._view)

    def model_note(self) -> ModelNote | None:
        """Return what judges, or None where nothing whole is noted at this moment."""
        return notes.unpack_model_note(self._view)

    def intake_note(self) -> IntakeNote | None:
        """Return what was not taken, or None where nothing whole is noted at this moment."""
        return notes.unpack_intake_note(self._view)

    def refresh(self) -> int:
        """Take up what capture has accepted since, and return the head.

        The place of the next number may hold a later one: the ring went round while we slept.
        """
        while True:
            places = self._ring_record(self.head + 1), self._spill_record(self.head + 1)
            accepted = (layout.unpack_accepted(place) for place in places)
            newer = [found[0] for found in accepted if found and found[0] > self.head]
            if not newer:
                return self.head
            self.head = min(newer)

    def is_begun(self, sequence: int) -> bool:
        """Say whether capture has begun to count this number, or a later one in its place."""
        places = self._ring_record(sequence), self._spill_record(sequence)
        return any(layout.number(place) >= sequence for place in places)

    def read(self, sequence: int) -> Entry | None:
        """Return a record, or None where the ring does not hold that number (any more)."""
        record = self._record(sequence)
        accepted = layout.unpack_accepted(record)
        if accepted is None or accepted[0] != sequence:
            return None
        return Entry(
            sequence,
            accepted[1],
            layout.unpack_captured(record, sequence),
            layout.unpack_result(record, sequence),
            layout.unpack_decision(record, sequence),
            layout.is_committed(record, sequence),
        )

    def next_held(self, sequence: int) -> int:
        """Return the lowest number held from this one on; `head + 1` where there is none."""
        held = (number for number in self._held() if sequence <= number <= self.head)
        return min(held, default=self.head + 1)

    def entries(self, where: Callable[[Entry], bool]) -> Iterator[Entry]:
        """Yield what is held up to the head and `where` accepts, oldest first."""
        for sequence in sorted(number for number in self._held() if number <= self.head):
            entry = self.read(sequence)
            if entry is not None and where(entry):
                yield entry

    def _held(self) -> Iterator[int]:
        """Yield the numbers of all whole records, in no order."""
        records = self.header.capacity + layout.SPILL_RECORDS
        for place in range(records):
            accepted = layout.unpack_accepted(self._at(place))
            if accepted is not None:
                yield accepted[0]

    def _begin(self, record: memoryview, trigger: Accepted) -> int:
        sequence = self.head + 1
        region = layout.pack_accepted(sequence, trigger)
        record[layout.ACCEPTED_AT : layout.ACCEPTED_AT + len(region)] = region
        self.head = sequence
        return sequence

    def _at(self, place: int) -> memoryview:
        start = layout.HEADER_BYTES + layout.RECORD_BYTES * place
        return self._view[start : start + layout.RECORD_BYTES]

    def _ring_record(self, sequence: int) -> memoryview:
        return self._at(sequence % self.header.capacity)

    def _spill_record(self, sequence: int) -> memoryview:
        return self._at(self.header.capacity + sequence % layout.SPILL_RECORDS)

    def _record(self, sequence: int) -> memoryview:
        ring = self._ring_record(sequence)
        return self._spill_record(sequence) if self.is_spilled(sequence) else ring

    def _write(self, sequence: int, offset: int, region: bytes) -> None:
        self._record(sequence)[offset : offset + len(region)] = region


def rename_aside(path: Path) -> Path:
    """Set a damaged journal aside under a name that says so, and return that name."""
    aside = path.with_name(f"{path.name}.damaged-{os.getpid()}")
    path.rename(aside)
    return aside


def _is_free(record: memoryview) -> bool:
    accepted = layout.unpack_accepted(record)
    return accepted is None or layout.is_committed(record, accepted[0])


def _file_bytes(capacity: int) -> int:
    return layout.HEADER_BYTES + layout.RECORD_BYTES * (capacity + layout.SPILL_RECORDS)
