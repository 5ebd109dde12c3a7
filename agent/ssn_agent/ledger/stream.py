"""The ledger's view of one camera's journal: what is pending, and what is due now."""

from collections.abc import Iterator

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Decision
from ssn_agent.ledger.rules import decide, is_late_result
from ssn_agent.ledger.writer import Counts, LedgerWriter
from ssn_contract.messages import InvalidReason


class PendingTriggers:
    """Follows a journal from the oldest record that the database lacks to the newest."""

    def __init__(self, journal: Journal, counts: Counts) -> None:
        """Take up what a ledger process before this one left open."""
        self.journal = journal
        self.counts = counts
        self._seen = journal.oldest() - 1
        self._pending: list[int] = []
        self._await_late: list[int] = []
        self.refresh()

    @property
    def pending(self) -> int:
        """Return how many triggers have no committed verdict yet."""
        return len(self._pending)

    @property
    def triggers(self) -> int:
        """Return how many triggers this epoch has counted: numbering starts at 1."""
        return self._seen

    def refresh(self) -> None:
        """Take up what capture has accepted since."""
        head = self.journal.refresh()
        for sequence in range(self._seen + 1, head + 1):
            entry = self.journal.read(sequence)
            if entry is None or not entry.committed:
                self._pending.append(sequence)
            elif _awaits_result(entry):
                self._await_late.append(sequence)
        self._seen = max(self._seen, head)

    def due(self, monotonic_ns: int, utc_ns: int) -> Iterator[tuple[Entry, Decision]]:
        """Yield what has its verdict now, in order; a new verdict is in the journal before.

        So a verdict that was decided stays the same one, whoever dies.
        """
        for sequence in self._pending:
            entry = self.journal.read(sequence)
            if entry is None:
                continue
            decision = entry.decision
            if decision is None:
                decision = decide(entry, monotonic_ns, utc_ns)
                if decision is None:
                    continue
                self.journal.decide(sequence, decision)
            yield entry, decision

    def committed(self, entry: Entry, decision: Decision) -> None:
        """Note that the database has this verdict."""
        self.journal.commit(entry.sequence)
        self._pending.remove(entry.sequence)
        reason = decision.reason.value if decision.reason else None
        self.counts.add(decision.outcome.name, reason)
        if decision.reason is InvalidReason.LATE:
            self._await_late.append(entry.sequence)

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
    """Take up a journal where the ledger process before this one left it. Raises LedgerError.

    That one may have died between a commit and the note of it: such a verdict is noted now, so that
    it is counted once.
    """
    camera, epoch = journal.header.camera, journal.header.epoch
    writer.open_stream(camera, epoch)
    committed = writer.committed(camera, epoch, journal.oldest())
    for entry in journal.entries(lambda entry: not entry.committed):
        if entry.sequence in committed:
            journal.commit(entry.sequence)
    return PendingTriggers(journal, writer.counts(camera, epoch))


def _has_no_frame(entry: Entry) -> bool:
    return entry.captured is not None and entry.captured.reason is not None


def _awaits_result(entry: Entry) -> bool:
    return (
        entry.decision is not None
        and entry.decision.reason is InvalidReason.LATE
        and entry.result is None
        and not _has_no_frame(entry)
    )
