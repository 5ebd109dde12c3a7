"""Triggers and frames of one camera into its journal and pixel slots: the journal's one writer.

In this order for every part: its trigger is counted in the journal; its pixels are put into a slot;
the slot is noted in the journal; inference is woken. A part that can have no frame is noted with
the reason, and the ledger is woken.
"""

import time
from dataclasses import dataclass, replace

from ssn_agent.capture.camera import Frame, HostTime
from ssn_agent.errors import ImageError, JournalError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Accepted, Captured
from ssn_agent.frames.notes import CameraNote, CameraState, IntakeNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots, SlotOwners
from ssn_agent.frames.wake import Ringer
from ssn_agent.log import logger
from ssn_agent.settings import CameraSettings
from ssn_contract.messages import InvalidReason


@dataclass(frozen=True)
class Counted:
    """A trigger that is in the journal."""

    sequence: int
    deadline_ns: int
    """By the monotonic clock."""
    is_closed: bool = False
    """It gets no frame: the ledger has not taken those before it, and it is INVALID(ledger)."""


class Intake:
    """One camera's way into the agent. Capture never waits for inference here."""

    def __init__(self, camera: str, settings: CameraSettings, files: RuntimeFiles) -> None:
        """Map the files and close what a capture process before this one left without a frame."""
        self._deadline_ns = int(settings.deadline_ms * 1e6)
        self.journal = Journal(files.journal(camera))
        self._slots = PixelSlots(files.pixels(camera))
        self._inference = Ringer(files.inference_bell)
        self._ledger = Ringer(files.ledger_bell)
        for entry in self.journal.entries(_has_no_frame):
            self.journal.capture(entry.sequence, Captured(InvalidReason.LOST))
        self._owners = SlotOwners(self.journal)
        self._counts = self.journal.intake_note() or IntakeNote()
        self._is_refusing = False
        self._state = CameraState.STARTING

    def counted(self) -> list[tuple[str, str]]:
        """Return part ids and trigger ids of what the journal holds, oldest first."""
        found = (entry.accepted for entry in self.journal.entries(lambda _: True))
        return [(a.part_id, a.trigger_id) for a in found if a.part_id and a.trigger_id]

    def has_room(self) -> bool:
        """Say whether a part that came now could be judged."""
        return self.journal.has_room() and self._owners.take() is not None

    def note(self, state: CameraState, message: str = "") -> None:
        """Say how the camera is."""
        self._state = state
        self.journal.note_camera(CameraNote(state, time.time_ns(), message))
        self._ledger.ring()

    def note_running(self) -> None:
        """Say that the camera works, unless the journal is full."""
        if self._state is not CameraState.RUNNING and not self._is_refusing:
            self.note(CameraState.RUNNING)

    def count(self, **more: int) -> IntakeNote:
        """Add to what came to the input, by the fields of `IntakeNote`, and return it."""
        sums = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **sums)
        self.journal.note_intake(self._counts)
        return self._counts

    def count_frame(self, frame: Frame, **more: int) -> None:
        """Count a frame that came, whatever becomes of it; `more` as `count` takes it."""
        self.count(received_frames=1, incomplete_frames=int(frame.pixels is None), **more)

    def accept(
        self,
        part_id: str | None,
        product: str | None = None,
        trigger_id: str | None = None,
        at: HostTime | None = None,
    ) -> Counted:
        """Count a trigger; one for which the journal has no room is INVALID(ledger) at once.

        `at`: when the part was in front of the camera; None: now.
        Raises JournalError where not even that is done with any more; the camera is then noted as
        faulty.
        """
        moment = at or HostTime.now()
        deadline = moment.monotonic_ns + self._deadline_ns
        times = moment.monotonic_ns, moment.utc_ns, deadline
        trigger = Accepted(*times, part_id, product, trigger_id)
        has_room = self.journal.has_room()
        try:
            sequence = (self.journal.accept if has_room else self.journal.spill)(trigger)
        except JournalError as error:
            if not self._is_refusing:
                self.note(CameraState.FAULTY, str(error))
                logger().error("parts are refused", problem=str(error))
            self._is_refusing = True
            raise
        self._is_refusing = False
        if not has_room:
            self.close(sequence, InvalidReason.LEDGER)
        return Counted(sequence, deadline, is_closed=not has_room)

    def place(self, sequence: int, frame: Frame) -> None:
        """Give a trigger its frame, or the reason why it cannot be judged."""
        captured = self._captured(frame)
        self.journal.capture(sequence, captured)
        if captured.reason is None:
            self._owners.give(captured.slot, sequence)
            self._inference.ring()
        else:
            self._ledger.ring()

    def close(self, sequence: int, reason: InvalidReason) -> None:
        """Note that a trigger gets no frame, and why."""
        self.journal.capture(sequence, Captured(reason))
        self._ledger.ring()

    def _captured(self, frame: Frame) -> Captured:
        if frame.pixels is None:
            return Captured(InvalidReason.UNREADABLE)
        slot = self._owners.take()
        if slot is None:
            return Captured(InvalidReason.OVERLOAD)
        try:
            size = self._slots.write(slot, frame.pixels, frame.pixel_format)
        except ImageError as error:
            logger().warning("frame not taken", problem=str(error))
            return Captured(InvalidReason.UNREADABLE)
        return Captured(
            None,
            slot,
            *size,
            frame_monotonic_ns=frame.captured.monotonic_ns,
            frame_id=_known(frame.frame_id),
            frame_utc_ns=frame.captured.utc_ns,
            device_timestamp_ns=_known(frame.device_timestamp_ns),
        )


def _known(value: int | None) -> int | None:
    """Return a device's number; None where it is none that counts, such as 2**64 - 1."""
    return value if value is not None and 0 <= value < 2**63 else None


def _has_no_frame(entry: Entry) -> bool:
    # Also where the ledger has closed it as late: inference waits at such a record.
    return entry.captured is None
