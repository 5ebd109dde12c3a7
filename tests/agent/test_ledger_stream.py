"""Exactly one verdict for every trigger, whoever dies between any two steps.

The machine plays capture, inference, the ledger process step by step, and its death; journal and
database are real.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, Engine, event

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured, Decision, Outcome, Result
from ssn_agent.frames.notes import SpillNote
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.stream import AT_ONCE, PendingTriggers, follow
from ssn_agent.ledger.verdicts import Decided, VerdictWriter, late_columns
from ssn_agent.ledger.writer import Counts, LedgerWriter
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from ssn_contract.messages import InvalidReason
from support.ledgers import decided, open_writer, rows, settings_in
from support.records import (
    DEADLINE_NS,
    EPOCH,
    FRAME,
    LATE,
    START_UTC_NS,
    judged,
    new_journal,
    trigger,
)

CAPACITY = 5
EMPTY = Path(tempfile.mkdtemp(prefix="ssn-empty-ledger-"))


@pytest.fixture(scope="module", autouse=True)
def _template() -> Iterator[None]:
    """An empty ledger, migrated once and copied for every run of the machine."""
    open_writer(settings_in(EMPTY))
    yield
    shutil.rmtree(EMPTY)


class Station(RuleBasedStateMachine):
    """One camera's triggers on their way to the database."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = 0
        self.verdicts: dict[int, tuple[str, str | None]] = {}
        self.due: list[tuple[Entry, Decision]] = []
        self.written: list[tuple[Entry, Decision]] = []
        self.given_up: set[int] = set()

    @initialize()
    def begin(self) -> None:
        shutil.copytree(EMPTY / "data", self.folder / "data")
        self.settings = settings_in(self.folder)
        self.messages = VerdictWriter(self.settings)
        self.database = sqlite3.connect(self.settings.ledger_path)
        self.journal = new_journal(self.folder / "left.journal", capacity=CAPACITY)
        self.start_ledger()

    def start_ledger(self) -> None:
        engine = open_database(self.settings.ledger_path)
        self.writer = LedgerWriter(engine, str(self.settings.station), self.messages)
        self.followed = Journal(self.journal.path)
        self.stream = follow(self.followed, self.writer)

    def entries(self) -> list[Entry]:
        return list(self.journal.entries(lambda _: True))

    # Capture.

    @precondition(lambda self: self.journal.has_room())
    @rule(captured=st.sampled_from([None, FRAME, FRAME, Captured(InvalidReason.OVERLOAD)]))
    def accept(self, captured: Captured | None) -> None:
        sequence = self.journal.accept(trigger(self.clock))
        if captured is not None:
            self.journal.capture(sequence, captured)

    @precondition(lambda self: not self.journal.has_room())
    @rule()
    def spill(self) -> None:
        self.journal.capture(
            self.journal.spill(trigger(self.clock)), Captured(InvalidReason.LEDGER)
        )

    @rule()
    def restart_capture(self) -> None:
        for entry in self.entries():
            if entry.captured is None:
                self.journal.capture(entry.sequence, Captured(InvalidReason.LOST))

    # Inference.

    @rule(outcome=st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.INVALID]))
    def judge_the_next_frame(self, outcome: Outcome) -> None:
        for entry in self.entries():
            framed = entry.captured is not None and entry.captured.reason is None
            if framed and entry.result is None:
                no_model = Result(Outcome.INVALID, InvalidReason.NO_MODEL, self.clock)
                invalid = outcome is Outcome.INVALID
                result = no_model if invalid else judged(outcome, self.clock)
                late = self.clock > entry.accepted.deadline_monotonic_ns and invalid
                self.journal.finish(entry.sequence, LATE if late else result)
                return

    @rule(share=st.sampled_from([0.1, 0.6, 1.1]))
    def time_passes(self, share: float) -> None:
        self.clock += int(share * DEADLINE_NS)

    # The ledger process, step by step.

    @precondition(lambda self: not self.written)  # what is written is noted in the same turn
    @rule()
    def decide(self) -> None:
        self.stream.refresh()
        self.due = list(self.stream.due(self.clock, START_UTC_NS + self.clock))

    @rule()
    def write(self) -> None:
        items = [self.decided(*pair) for pair in self.due]
        self.writer.write(items, Delivery())
        self.written, self.due = self.due, []

    @rule()
    def commit(self) -> None:
        for entry, decision in self.written:
            self.stream.committed(entry, decision)
        self.written = []

    @rule(dies_after=st.sampled_from(["decide", "write", "commit", None]))
    def work_a_turn(self, dies_after: str | None) -> None:
        self.commit()
        for step in (self.decide, self.write, self.commit):
            step()
            if step.__name__ == dies_after:
                self.the_ledger_process_dies()
                return

    @rule()
    def the_database_is_away(self) -> None:
        self.commit()
        self.decide()
        self.due = []
        self.given_up |= set(self.stream.give_up_spilled())

    @rule()
    def keep_late_results(self) -> None:
        self.writer.keep_late("left", EPOCH, late_by_number(self.stream))

    @rule()
    def the_ledger_process_dies(self) -> None:
        self.followed.close()
        self.due, self.written = [], []
        self.start_ledger()

    def decided(self, entry: Entry, decision: Decision) -> Decided:
        message = self.messages.message(self.followed.header, entry, decision)
        return Decided(self.followed.header, entry, message)

    # What must hold, always.

    @invariant()
    def everything_adds_up(self) -> None:
        if hasattr(self, "stream"):
            assert self.stream.triggers == self.stream.counts.closed + self.stream.pending
            assert self.stream.triggers <= self.journal.head

    @invariant()
    def no_verdict_changes_and_none_is_there_twice(self) -> None:
        if not hasattr(self, "stream"):
            return
        query = "SELECT sequence, verdict, reason FROM verdicts JOIN triggers ON id = trigger_id"
        found = self.database.execute(query).fetchall()
        for sequence, verdict, reason in found:
            assert self.verdicts.setdefault(sequence, (verdict, reason)) == (verdict, reason)
        assert len(found) == len(self.verdicts)
        noted = {entry.sequence for entry in self.entries() if entry.committed}
        assert noted <= set(self.verdicts) | self.given_up

    def teardown(self) -> None:
        if hasattr(self, "stream"):
            self.clock += 2 * DEADLINE_NS
            self.work_a_turn(None)
            self.no_verdict_changes_and_none_is_there_twice()
            numbers = set(range(1, self.journal.head + 1))
            assert set(self.verdicts) == numbers - self.given_up
            assert self.stream.pending == 0
            self.stream.take_up(self.writer)
            assert self.writer.counts("left", EPOCH).closed == self.journal.head
            self.everything_adds_up()
            self.journal.close()
            self.followed.close()
            self.database.close()
        shutil.rmtree(self.folder)


Station.TestCase.settings = hypothesis_settings(
    max_examples=25, stateful_step_count=30, deadline=None
)
TestOneVerdictForEveryTrigger = Station.TestCase


def start(folder: Path, *, capacity: int = 8) -> tuple[Settings, Journal, LedgerWriter]:
    settings = settings_in(folder)
    journal = new_journal(folder / "left.journal", capacity=capacity)
    return settings, journal, open_writer(settings)


def late_by_number(stream: PendingTriggers) -> dict[int, dict[str, Any]]:
    """Return the columns of the late results that have come, each once."""
    late = {entry.sequence: entry for entry in stream.late_results()}
    return {n: late_columns(e, e.result) for n, e in late.items() if e.result is not None}


def test_a_death_between_commit_and_its_note_counts_the_verdict_once(tmp_path: Path) -> None:
    settings, journal, writer = start(tmp_path)
    with closing(journal):
        sequence = journal.accept(trigger())
        journal.capture(sequence, FRAME)
        journal.finish(sequence, judged(Outcome.PASS))
        before = follow(journal, writer)
        ((entry, decision),) = before.due(10, 20)
        writer.write([decided(settings, journal, entry, decision)], Delivery())

        after = follow(journal, writer)
        assert (after.triggers, after.counts.passed, after.pending) == (1, 1, 0)
        assert list(after.due(10, 20)) == []


def test_a_verdict_is_in_the_journal_before_anyone_hears_of_it(tmp_path: Path) -> None:
    _, journal, _ = start(tmp_path)
    with closing(journal):
        sequence = journal.accept(trigger())
        stream = PendingTriggers(journal, Counts())
        ((_, decision),) = stream.due(DEADLINE_NS + 1, 5)
        journal.capture(sequence, FRAME)
        journal.finish(sequence, judged(Outcome.PASS))
        ((_, again),) = PendingTriggers(journal, Counts()).due(DEADLINE_NS + 9, 9)
        assert again == decision
        assert decision.reason is InvalidReason.LATE


def test_what_was_counted_and_not_kept_is_counted_once_whoever_dies_in_between(
    tmp_path: Path,
) -> None:
    settings, journal, writer = start(tmp_path, capacity=2)
    with closing(journal):
        follow(journal, writer)
        for _ in range(2):
            journal.accept(trigger())
        for _ in range(3):
            journal.capture(journal.spill(trigger()), Captured(InvalidReason.LEDGER))
        dead = PendingTriggers(journal, Counts())  # it never reached the database
        dead.decide(1, 1)
        assert dead.give_up_spilled() == [3, 4, 5]
        journal.note_spill(SpillNote(4, 6))  # it died when it had counted the next one
        journal.capture(journal.spill(trigger()), Captured(InvalidReason.LEDGER))
        after = PendingTriggers(journal, Counts())
        after.decide(1, 1)
        assert after.give_up_spilled() == [6]
        for _ in range(2):  # the second one finds nothing to tell
            after.take_up(writer)
            assert (after.triggers, after.pending, after.counts.invalid["ledger"]) == (6, 2, 4)
        again = follow(journal, open_writer(settings))
        assert (again.triggers, again.pending, again.counts.invalid["ledger"]) == (6, 2, 4)
        assert rows(settings, "SELECT count(*) FROM verdicts") == [(0,)]


def test_parts_that_are_judged_while_the_ledger_looks_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, journal, _ = start(tmp_path)
    with closing(journal):
        waiting = [journal.accept(trigger()) for _ in range(3)]
        for sequence in waiting:
            journal.capture(sequence, FRAME)
        stream = PendingTriggers(journal, Counts())
        read = journal.read

        def read_while_inference_works(sequence: int) -> Entry | None:
            entry = read(sequence)
            while waiting:
                journal.finish(waiting.pop(0), judged(Outcome.PASS))
            return entry

        monkeypatch.setattr(journal, "read", read_while_inference_works)
        found = [entry.sequence for _ in range(2) for entry, _ in stream.due(10, 20, 2)]
    assert found[:2] == [1, 2]


def test_counts_of_a_ledger_that_lacks_verdicts_are_not_told(tmp_path: Path) -> None:
    _, journal, writer = start(tmp_path)
    with closing(journal):
        journal.capture(journal.accept(trigger()), FRAME)
        journal.finish(1, judged(Outcome.PASS))
        list(PendingTriggers(journal, Counts()).due(10, 20))
        journal.commit(1)  # in a ledger that is no longer there
        stream = follow(journal, writer)
        assert (stream.is_counted, stream.is_taken_up) == (False, True)


def test_a_long_outage_is_written_in_bounded_commits(tmp_path: Path) -> None:
    _, journal, writer = start(tmp_path, capacity=AT_ONCE + 10)
    with closing(journal):
        for _ in range(AT_ONCE + 10):
            journal.accept(trigger())
        stream = follow(journal, writer)
        first = list(stream.due(DEADLINE_NS + 1, 5))
        assert [entry.sequence for entry, _ in first] == list(range(1, AT_ONCE + 1))
        for entry, decision in first:
            stream.committed(entry, decision)
        assert len(list(stream.due(DEADLINE_NS + 1, 5))) == 10


@pytest.mark.parametrize("framed_before", [True, False])
def test_what_the_model_said_after_the_deadline_is_kept_beside_the_verdict(
    tmp_path: Path, *, framed_before: bool
) -> None:
    settings, journal, writer = start(tmp_path)
    with closing(journal):
        sequence = journal.accept(trigger())
        if framed_before:
            journal.capture(sequence, FRAME)
        stream = follow(journal, writer)
        ((entry, decision),) = stream.due(DEADLINE_NS + 1, 5)
        writer.write([decided(settings, journal, entry, decision)], Delivery())
        stream.committed(entry, decision)
        assert stream.late_results() == []
        journal.capture(sequence, FRAME)
        journal.finish(sequence, judged(Outcome.FAIL, 2 * DEADLINE_NS))
        writer.keep_late("left", EPOCH, late_by_number(stream))
        assert stream.late_results() == []
        found = rows(settings, "SELECT verdict, reason, late_verdict, late_ms FROM verdicts")
        assert found == [("INVALID", "late", "FAIL", 4000.0)]
        assert rows(settings, "SELECT count(*) FROM defects") == [(0,)]


def test_the_late_results_of_an_outage_cost_one_commit(tmp_path: Path) -> None:
    # One each took longer than a heartbeat may promise: the ledger process was killed as hung,
    # began anew with more of them, and was killed again.
    settings, journal, writer = start(tmp_path, capacity=64)
    with closing(journal):
        for _ in range(50):
            sequence = journal.accept(trigger())
            journal.capture(sequence, FRAME)
            journal.finish(sequence, judged(Outcome.PASS))
        stream = follow(journal, writer)
        due = list(stream.due(DEADLINE_NS + 1, 5))
        writer.write([decided(settings, journal, *pair) for pair in due], Delivery())
        for pair in due:
            stream.committed(*pair)
        commits: list[Connection] = []
        note = commits.append
        event.listen(Engine, "commit", note)
        try:
            writer.keep_late("left", EPOCH, late_by_number(stream))
        finally:
            event.remove(Engine, "commit", note)
        assert len(commits) == 1
        found = rows(settings, "SELECT count(*) FROM verdicts WHERE late_verdict = 'PASS'")
        assert found == [(50,)]


def test_a_late_result_is_still_awaited_after_the_ledger_process_died(tmp_path: Path) -> None:
    settings, journal, writer = start(tmp_path)
    with closing(journal):
        sequence = journal.accept(trigger())
        journal.capture(sequence, FRAME)
        stream = follow(journal, writer)
        ((entry, decision),) = stream.due(DEADLINE_NS + 1, 5)
        writer.write([decided(settings, journal, entry, decision)], Delivery())
        stream.committed(entry, decision)
        after = follow(journal, writer)
        journal.finish(sequence, judged(Outcome.PASS))
        assert [late.sequence for late in after.late_results()] == [sequence]
