"""Parts whose senders name them: a repeated id is the same trigger, and frames may come apart.

Shared by every way in which triggers with an id reach a camera, so that one id means one trigger
whichever way it comes, and however often.
"""

import time
from collections.abc import Callable

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.pairing import Pairing
from ssn_agent.errors import JournalError, short
from ssn_agent.frames.journal import Entry
from ssn_contract.messages import InvalidReason, Trigger
from ssn_contract.zeromq import FrameState, PartAnswer


class Parts:
    """Triggers by their ids, as far back as the journal reaches."""

    def __init__(self, intake: Intake, ask: Callable[[int, int], bool] | None = None) -> None:
        """Take up the ids that capture processes before this one have counted.

        `ask` asks a camera for the frame of a trigger (sequence, deadline by the monotonic clock in
        nanoseconds), and says whether there is a camera to ask; None: senders bring their frames.
        """
        self._intake = intake
        self._ask = ask
        self._journal = intake.journal
        self._pairing = Pairing()
        self._sequences: dict[str, int] = {}  # in rising order of the numbers
        for entry in self._journal.entries(_has_id):
            if entry.accepted.trigger_id is not None:
                self._sequences[entry.accepted.trigger_id] = entry.sequence

    def take(self, trigger: Trigger, frame: Frame | None) -> PartAnswer:
        """Count a trigger, once for its id, give it its frame where one came, and say so."""
        self.expire()
        known = self._sequences.get(trigger.id)
        try:
            sequence = self._count(trigger) if known is None else known
        except JournalError as error:
            return PartAnswer(id=trigger.id, status="refused", problem=short(error))
        repeated = known is not None
        if frame is not None:
            self._take_sent(sequence, frame, repeated=repeated)
        return PartAnswer(
            id=trigger.id,
            status="accepted",
            epoch=self._journal.header.epoch,
            sequence=sequence,
            repeated=repeated,
            frame=_frame_state(self._journal.read(sequence)),
        )

    def expire(self) -> None:
        """Close the trigger that has waited for its frame until its deadline."""
        overdue = self._pairing.expire(time.monotonic_ns())
        if overdue is not None:
            self._intake.close(overdue, InvalidReason.LATE)

    def note_malformed(self) -> int:
        """Count a message that was not understood; return how many there were."""
        return self._intake.count(malformed_messages=1).malformed_messages

    def bring(self, sequence: int, frame: Frame) -> None:
        """Take the frame of a trigger, unless the trigger no longer waits for it."""
        is_awaited = self._pairing.frame(sequence, time.monotonic_ns())
        self._intake.count_frame(frame, discarded_frames=int(not is_awaited))
        if is_awaited:
            self._intake.place(sequence, frame)

    def discard(self) -> None:
        """Count a frame that nobody asked for."""
        self._intake.count(received_frames=1, discarded_frames=1)

    def lose(self) -> None:
        """Close the trigger that waits for its frame, if one does: the camera cannot give it."""
        waiting = self._pairing.give_up()
        if waiting is not None:
            self._intake.close(waiting, InvalidReason.LOST)

    def _count(self, trigger: Trigger) -> int:
        accepted = self._intake.accept(trigger.part_id, trigger.product, trigger.id)
        self._sequences[trigger.id] = accepted.sequence
        while len(self._sequences) > self._journal.header.capacity:
            del self._sequences[next(iter(self._sequences))]
        if accepted.is_closed:
            return accepted.sequence
        if not self._pairing.trigger(accepted.sequence, accepted.deadline_ns):
            self._intake.close(accepted.sequence, InvalidReason.OVERRUN)
        elif self._ask is not None and not self._ask(accepted.sequence, accepted.deadline_ns):
            self.lose()
        return accepted.sequence

    def _take_sent(self, sequence: int, frame: Frame, *, repeated: bool) -> None:
        # Not counted: a frame that is repeated after it was taken, and one of an overrun trigger.
        if self._pairing.waiting == sequence or (
            repeated and _frame_state(self._journal.read(sequence)) == "none"
        ):
            self.bring(sequence, frame)


def _has_id(entry: Entry) -> bool:
    return entry.accepted.trigger_id is not None


def _frame_state(entry: Entry | None) -> FrameState:
    if entry is None:  # counted as INVALID(ledger), and done with
        return "none"
    if entry.captured is None:
        return "awaited"
    return "taken" if entry.captured.reason is None else "none"
