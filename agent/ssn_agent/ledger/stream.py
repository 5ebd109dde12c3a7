"""The ledger's view of one camera's journal: what is pending, and what is due now."""

from collections.abc import Collection, Iterator

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Decision
from ssn_agent.frames.notes import SpillNote
from ssn_agent.ledger.rejects import RejectRun
from ssn_agent.ledger.rules import decide, is_late_result
from ssn_agent.ledger.writer import Counts, LedgerWriter
from ssn_agent.log import logger
from ssn_contract.messages import InvalidReason

AT_ONCE = 500
"""Verdicts in one commit: after an outage there are thousands, and new ones come."""


class PendingTriggers:
    """Follows a journal from the oldest record that the database lacks to the newest."""

    def __init__(self, journal: Journal, counts: Counts) -> None:
        """Take up what a ledger process before this one left open, as the journal has it.

        The database may be away; what it knows comes by `take_up`.
        """
        self.journal = journal
        self.counts = counts
        self.is_counted = False
        """Whether `counts` are the database's."""
        self.is_taken_up = False
        """Whether the database knows all that it is to be told beside the verdicts."""
        self.rejects = RejectRun()
        """Since this process started."""
        self._seen = journal.head
        self._open: list[int] = []
        self._decided: set[int] = set()
        self._spilled: set[int] = set()
        self._await_late: list[int] = []
        for entry in journal.entries(lambda _: True):
            self._take(entry.sequence, entry)

    def take_up(self, writer: LedgerWriter) -> None:
        """Learn from the database what it has, and tell it what was only counted.

        The process before may have died between a commit and the note of it: such a verdict is
        noted now, so that it is counted once. Raises LedgerError.
        """
        header = self.journal.header
        writer.open_stream(header.camera, header.epoch)
        self.refresh()
        first = min(self._decided, default=self._seen + 1)
        known = writer.committed(header.camera, header.epoch, first)
        counts = writer.counts(header.camera, header.epoch)
        for sequence in sorted(self._decided & known):
            self.journal.commit(sequence)
            self._decided.remove(sequence)
            self._take(sequence, self.journal.read(sequence))
        self._tell_unkept(writer, counts)
        self.counts = counts
        # Where they do not, `prepare` begins a new epoch at the next start.
        self.is_counted = counts.closed + self.pending == self.triggers
        if not self.is_counted:
            logger().error("the ledger lacks verdicts; start the agent again", camera=header.camera)
        self.is_taken_up = True

    def _tell_unkept(self, writer: LedgerWriter, counts: Counts) -> None:
        """Tell the database how many verdicts it lacks that were given up, once."""
        note = self.journal.spill_note()
        lacking = self.triggers - counts.closed - self.pending
        if not 0 < lacking <= note.count:
            return  # none; or it lacks others, too, which `prepare` says
        header, ledger = self.journal.header, InvalidReason.LEDGER
        writer.count_unkept(header.camera, header.epoch, ledger.value, lacking)
        counts.add("INVALID", ledger.value, lacking)
        self.journal.note_spill(SpillNote(0, note.last))
        logger().error("verdicts were counted and not kept", camera=header.camera, count=lacking)

    @property
    def pending(self) -> int:
        """Return how many triggers have no committed verdict yet."""
        return len(self._open) + len(self._decided)

    @property
    def triggers(self) -> int:
        """Return how many triggers this epoch has counted: numbering starts at 1."""
        return self._seen

    def refresh(self) -> None:
        """Take up what capture has accepted since."""
        head = self.journal.refresh()
        for sequence in range(self._seen + 1, head + 1):
            self._take(sequence, self.journal.read(sequence))
        self._seen = max(self._seen, head)

    def _take(self, sequence: int, entry: Entry | None) -> None:
        if entry is None or not entry.committed:
            if entry is not None and entry.decision is not None:
                self._decided.add(sequence)
            else:
                self._open.append(sequence)
            if self.journal.is_spilled(sequence):
                self._spilled.add(sequence)
        elif _awaits_result(entry):
            self._await_late.append(sequence)

    def decide(self, monotonic_ns: int, utc_ns: int) -> None:
        """Give what is due its verdict, in the journal before anyone hears of it.

        So a verdict that was decided stays the same one, whoever dies.
        """
        undecided = []
        # Newest first: of what is judged meanwhile the older parts are seen, and none before them.
        for sequence in reversed(self._open):
            entry = self.journal.read(sequence)
            decision = None if entry is None else decide(entry, monotonic_ns, utc_ns)
            if decision is None:
                undecided.append(sequence)
            else:
                self.journal.decide(sequence, decision)
                self._decided.add(sequence)
        self._open = undecided[::-1]

    @property
    def decided(self) -> list[int]:
        """Return the numbers that have a verdict which the database lacks, oldest first."""
        return sorted(self._decided)

    @property
    def spilled(self) -> list[int]:
        """Return those of them whose records are wanted for other triggers, oldest first."""
        return sorted(self._decided & self._spilled)

    def due(
        self, monotonic_ns: int, utc_ns: int, at_once: int = AT_ONCE
    ) -> Iterator[tuple[Entry, Decision]]:
        """Decide, and yield what is to be committed, oldest first, a bounded number at once."""
        self.decide(monotonic_ns, utc_ns)
        for sequence in self.decided[:at_once]:
            entry = self.journal.read(sequence)
            if entry is not None and entry.decision is not None:
                yield entry, entry.decision

    def committed(self, entry: Entry, decision: Decision, *, is_test: bool = False) -> None:
        """Note that the database has this verdict; `is_test`: of a challenge part."""
        self.journal.commit(entry.sequence)
        self._decided.remove(entry.sequence)
        self._spilled.discard(entry.sequence)
        reason = decision.reason.value if decision.reason else None
        self.counts.add(decision.outcome.name, reason)
        if not is_test:  # a bad one is known to be, and a good one says nothing of the others
            self.rejects.add(decision)
        if decision.reason is InvalidReason.LATE:
            self._await_late.append(entry.sequence)

    def give_up_spilled(self, told: Collection[int] | None = None) -> list[int]:
        """Count spilled triggers as INVALID(ledger), let their records go; return their numbers.

        `told`: those that may go; None: all. In this order: a process that dies in between has
        counted one, and the next one knows.
        """
        given_up = [number for number in self.spilled if told is None or number in told]
        for sequence in given_up:
            note = self.journal.spill_note()
            if sequence > note.last:
                self.journal.note_spill(SpillNote(note.count + 1, sequence))
            self.journal.commit(sequence)
            self._decided.remove(sequence)
            self.counts.add("INVALID", InvalidReason.LEDGER.value)
            self.is_taken_up = False
        self._spilled.difference_update(given_up)
        return given_up

    def late_results(self) -> list[Entry]:
        """Return results that came after their triggers were closed as late, each once."""
        found = []
        for sequence in list(self._await_late):
            entry = self.journal.read(sequence)
            if entry is None or entry.result is not None or _has_no_frame(entry):
                self._await_late.remove(sequence)
            if entry is not None and is_late_result(entry):
                found.append(entry)
        return found


def follow(journal: Journal, writer: LedgerWriter) -> PendingTriggers:
    """Take up a journal where the ledger process before this one left it. Raises LedgerError."""
    stream = PendingTriggers(journal, Counts())
    stream.take_up(writer)
    return stream


def _has_no_frame(entry: Entry) -> bool:
    return entry.captured is not None and entry.captured.reason is not None


def _awaits_result(entry: Entry) -> bool:
    return (
        entry.decision is not None
        and entry.decision.reason is InvalidReason.LATE
        and entry.result is None
        and not _has_no_frame(entry)
    )
