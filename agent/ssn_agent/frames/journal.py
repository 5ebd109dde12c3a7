"""The trigger journal of one camera: the truth about every part from trigger to committed verdict.

A ring of records in a mapped file (`frames.layout`). Each process writes its own regions and reads
the others'. What is in it outlives every process that wrote it.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import JournalError
from ssn_agent.frames import layout
from ssn_agent.frames.layout import (
    Accepted,
    CameraNote,
    Captured,
    Decision,
    Header,
    IntakeNote,
    ModelNote,
    Result,
)


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
        self.head = self._find_head()
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
        old = self.head + 1 - self.header.capacity
        return old < self.header.first or layout.is_committed(self._record(old), old)

    def accept(self, trigger: Accepted) -> int:
        """Count a trigger and return its sequence number.

        Raises JournalError where the ring is full of verdicts that the ledger has not taken.
        """
        if not self.has_room():
            msg = f"{self.path}: full; the ledger has not taken {self.header.capacity} verdicts"
            raise JournalError(msg)
        sequence = self.head + 1
        self._write(sequence, layout.ACCEPTED_AT, layout.pack_accepted(sequence, trigger))
        self.head = sequence
        return sequence

    def capture(self, sequence: int, value: Captured) -> None:
        """Note a trigger's frame, or why it has none."""
        self._write(sequence, layout.CAPTURED_AT, layout.pack_captured(sequence, value))

    def note_camera(self, note: CameraNote) -> None:
        """Say how the camera is."""
        region = layout.pack_camera_note(note)
        self._view[layout.CAMERA_NOTE_AT : layout.CAMERA_NOTE_AT + len(region)] = region

    def note_intake(self, note: IntakeNote) -> None:
        """Say what was not taken."""
        region = layout.pack_intake_note(note)
        self._view[layout.INTAKE_NOTE_AT : layout.INTAKE_NOTE_AT + len(region)] = region

    # Inference writes.

    def note_model(self, note: ModelNote) -> None:
        """Say what judges."""
        region = layout.pack_model_note(note)
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

    # Everyone reads.

    def camera_note(self) -> CameraNote | None:
        """Return how the camera is, or None where nothing whole is noted at this moment."""
        return layout.unpack_camera_note(self._view)

    def model_note(self) -> ModelNote | None:
        """Return what judges, or None where nothing whole is noted at this moment."""
        return layout.unpack_model_note(self._view)

    def intake_note(self) -> IntakeNote | None:
        """Return what was not taken, or None where nothing whole is noted at this moment."""
        return layout.unpack_intake_note(self._view)

    def refresh(self) -> int:
        """Take up what capture has accepted since, and return the head.

        The place of the next number may hold a later one: the ring went round while we slept.
        """
        while True:
            accepted = layout.unpack_accepted(self._record(self.head + 1))
            if accepted is None or accepted[0] <= self.head:
                return self.head
            self.head = accepted[0]

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

    def oldest(self) -> int:
        """Return the lowest sequence number that the ring still holds."""
        return max(self.header.first, self.head - self.header.capacity + 1)

    def entries(self, where: Callable[[Entry], bool]) -> Iterator[Entry]:
        """Yield what the ring holds and `where` accepts, oldest first."""
        for sequence in range(self.oldest(), self.head + 1):
            entry = self.read(sequence)
            if entry is not None and where(entry):
                yield entry

    def _find_head(self) -> int:
        head = self.header.first - 1
        for index in range(self.header.capacity):
            accepted = layout.unpack_accepted(self._record(index))
            if accepted is not None:
                head = max(head, accepted[0])
        return head

    def _record(self, sequence: int) -> memoryview:
        start = layout.HEADER_BYTES + layout.RECORD_BYTES * (sequence % self.header.capacity)
        return self._view[start : start + layout.RECORD_BYTES]

    def _write(self, sequence: int, offset: int, region: bytes) -> None:
        start = layout.HEADER_BYTES + layout.RECORD_BYTES * (sequence % self.header.capacity)
        self._view[start + offset : start + offset + len(region)] = region


def rename_aside(path: Path) -> Path:
    """Set a damaged journal aside under a name that says so, and return that name."""
    aside = path.with_name(f"{path.name}.damaged-{os.getpid()}")
    path.rename(aside)
    return aside


def _file_bytes(capacity: int) -> int:
    return layout.HEADER_BYTES + layout.RECORD_BYTES * capacity
