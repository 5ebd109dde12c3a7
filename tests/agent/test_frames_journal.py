"""The trigger journal: numbers without gaps, steps that stay, whoever reads and whoever dies."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ssn_agent.errors import JournalError
from ssn_agent.frames import layout
from ssn_agent.frames.journal import Entry, Journal, rename_aside
from ssn_agent.frames.layout import (
    SPILL_RECORDS,
    Accepted,
    Captured,
    Decision,
    Header,
    Outcome,
    Result,
)
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_contract.messages import InvalidReason
from support.records import EPOCH, FRAME, judged, new_journal, trigger
from support.waiting import wait_until

CAPACITY = 4
EARLIER_BOOT = UUID(int=7)

STEPS: dict[str, tuple[str, object]] = {
    "capture": ("captured", FRAME),
    "lose": ("captured", Captured(InvalidReason.LOST)),
    "finish": ("result", judged(Outcome.FAIL)),
    "decide": ("decision", Decision(Outcome.PASS, None, 20, 30)),
}


class Model(RuleBasedStateMachine):
    """A journal against a plain dictionary of entries; a slow reader looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "left.journal"

    @initialize(first=st.integers(1, 1000))
    def begin(self, first: int) -> None:
        self.first = first
        self.journal = new_journal(self.path, capacity=CAPACITY, first=first)
        self.reader = Journal(self.path)
        self.expected: dict[int, Entry] = {}

    @property
    def head(self) -> int:
        return self.first - 1 + len(self.expected)

    @property
    def full(self) -> bool:
        oldest = self.expected.get(self.head + 1 - CAPACITY)
        return oldest is not None and not oldest.committed

    @precondition(lambda self: not self.full)
    @rule(part_id=st.none() | st.text(max_size=20), at_ns=st.integers(0, 2**60))
    def accept(self, part_id: str | None, at_ns: int) -> None:
        value = trigger(at_ns, part_id)
        sequence = self.journal.accept(value)
        assert sequence == self.head + 1
        self.expected[sequence] = Entry(sequence, value, None, None, None, committed=False)

    @precondition(lambda self: self.full)
    @rule()
    def is_refused_when_full(self) -> None:
        with pytest.raises(JournalError, match="full"):
            self.journal.accept(trigger())

    @precondition(lambda self: self.expected)
    @rule(back=st.integers(0, CAPACITY - 1), step=st.sampled_from([*STEPS, "commit"]))
    def go_on(self, back: int, step: str) -> None:
        sequence = max(self.first, self.head - back)
        old = self.expected[sequence]
        if step == "commit":
            self.journal.commit(sequence)
            changed = {**vars(old), "committed": True}
        else:
            name, value = STEPS[step]
            match value:
                case Captured():
                    self.journal.capture(sequence, value)
                case Result():
                    self.journal.finish(sequence, value)
                case Decision():
                    self.journal.decide(sequence, value)
            changed = {**vars(old), name: value}
        self.expected[sequence] = Entry(**changed)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path)
        assert self.journal.head == self.head

    @rule()
    def the_reader_catches_up(self) -> None:
        assert self.reader.refresh() == self.head

    @invariant()
    def room_is_told_truly(self) -> None:
        if hasattr(self, "journal"):
            assert self.journal.has_room() is not self.full

    @invariant()
    def what_was_written_is_read_by_both(self) -> None:
        if not hasattr(self, "journal"):
            return
        kept = range(max(self.first, self.head - CAPACITY + 1), self.head + 1)
        for sequence in kept:
            assert self.journal.read(sequence) == self.expected[sequence]
            assert self.reader.read(sequence) == self.expected[sequence]
        assert self.journal.read(self.head + 1) is None
        assert self.journal.read(self.head - CAPACITY) is None
        assert self.journal.next_held(0) == max(self.first, self.head - CAPACITY + 1)
        assert [e.sequence for e in self.journal.entries(lambda _: True)] == list(kept)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.reader.close()
        self.folder.cleanup()


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrderOfSteps = Model.TestCase


def test_a_reader_that_slept_through_whole_turns_of_the_ring_finds_the_head(
    tmp_path: Path,
) -> None:
    journal = new_journal(tmp_path / "j", capacity=4)
    with closing(journal), closing(Journal(journal.path)) as reader:
        for turn in range(1, 12):
            journal.commit(journal.accept(trigger(turn)))
        assert reader.refresh() == 11


def test_spilled_triggers_have_numbers_and_records_of_their_own_and_hide_no_other(
    tmp_path: Path,
) -> None:
    with (
        closing(new_journal(tmp_path / "j", capacity=4)) as journal,
        closing(Journal(tmp_path / "j")) as reader,
    ):
        for turn in range(4):
            journal.accept(trigger(turn))
        assert not journal.has_room()
        for turn in range(4, 4 + 3 * SPILL_RECORDS):
            sequence = journal.spill(trigger(turn))
            journal.capture(sequence, Captured(InvalidReason.LEDGER))
            assert journal.is_spilled(sequence)
            journal.commit(sequence)
        head = journal.head
        assert reader.refresh() == head == 4 + 3 * SPILL_RECORDS
        for sequence in range(1, 5):  # the ring has lost nothing
            assert reader.read(sequence) == Entry(
                sequence, trigger(sequence - 1), None, None, None, committed=False
            )
        assert reader.read(5) is None
        assert reader.next_held(5) == head - SPILL_RECORDS + 1
        journal.commit(head % 4 + 1)
        while not journal.has_room():
            journal.commit(journal.spill(trigger()))
        back = journal.accept(trigger(7))
        assert not journal.is_spilled(back)
        assert reader.refresh() == back
    with closing(Journal(tmp_path / "j")) as reopened:
        assert reopened.head == back
        held = [entry.sequence for entry in reopened.entries(lambda _: True)]
        assert held == sorted(held)
        assert len(held) == 4 + SPILL_RECORDS


def test_a_spilled_trigger_that_nobody_has_counted_is_never_written_over(tmp_path: Path) -> None:
    with closing(new_journal(tmp_path / "j", capacity=1)) as journal:
        journal.accept(trigger())
        for _ in range(SPILL_RECORDS):
            journal.spill(trigger())
        with pytest.raises(JournalError, match="full"):
            journal.spill(trigger())
        assert journal.head == 1 + SPILL_RECORDS


def test_an_empty_journal_numbers_from_its_first(tmp_path: Path) -> None:
    with closing(new_journal(tmp_path / "j", first=500)) as journal:
        assert journal.head == 499
        assert journal.accept(trigger()) == 500


def test_a_trigger_whose_writing_was_cut_short_does_not_count_and_its_number_is_given_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j"
    with closing(new_journal(path)) as journal:
        journal.accept(trigger(1))
        journal.accept(trigger(2))
    data = bytearray(path.read_bytes())
    data[layout.HEADER_BYTES + 2 * layout.RECORD_BYTES + 40] ^= 1
    path.write_bytes(data)
    with closing(Journal(path)) as journal:
        assert journal.head == 1
        assert journal.accept(trigger(3)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:0],
        lambda data: data[:100],
        lambda data: data[: layout.HEADER_BYTES],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"X" + data[1:],
        lambda data: bytes(len(data)),
    ],
    ids=["empty", "cut", "header-only", "short", "long", "magic", "zeros"],
)
def test_a_file_that_is_no_whole_journal_is_refused_by_name(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "left.journal"
    new_journal(path).close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(JournalError, match=r"left\.journal"):
        Journal(path)


def test_a_journal_that_is_not_there_is_an_error_by_name(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"absent\.journal"):
        Journal(tmp_path / "absent.journal")


def test_a_damaged_journal_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "left.journal"
    path.write_bytes(b"damaged")
    aside = rename_aside(path)
    assert not path.exists()
    assert aside.read_bytes() == b"damaged"


ACCEPT_FOREVER = """
import sys
from pathlib import Path
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import (Accepted, Captured)
from ssn_agent.frames.pixel_format import PixelFormat
journal = Journal(Path(sys.argv[1]))
journal.commit(journal.head)  # as the ledger process closes what a dead one left
while True:
    n = journal.head + 1
    assert journal.accept(Accepted(n, n + 1, n + 2, f"part-{n}" * 9, None)) == n
    journal.capture(n, Captured(None, n % 6, n, n + 1, PixelFormat.RGB8, n + 2, n + 3))
    journal.commit(n)
"""


def test_a_capture_process_killed_while_it_writes_leaves_whole_records_without_gaps(
    tmp_path: Path,
) -> None:
    path = tmp_path / "left.journal"
    Journal.create(path, Header("left", EPOCH, EARLIER_BOOT, 1, 64)).close()
    head = 0
    heads_at_death = set()
    for _ in range(3):
        command = [sys.executable, "-c", ACCEPT_FOREVER, str(path)]
        with closing(Journal(path)) as watch:
            goal = head + 200
            process = subprocess.Popen(command)
            wait_until(lambda: watch.refresh() > goal, 20, "no triggers")  # noqa: B023 -- run at once
            process.send_signal(signal.SIGKILL)
            process.wait()
        with closing(Journal(path)) as journal:
            assert journal.head > head
            head = journal.head
            heads_at_death.add(head)
            # The kill may have torn the record after the head, which held the ring's oldest.
            for n in range(journal.next_held(0) + 1, head + 1):
                entry = journal.read(n)
                assert entry is not None
                assert entry.accepted == Accepted(n, n + 1, n + 2, f"part-{n}" * 9, None)
                if n not in heads_at_death:
                    assert entry.captured == Captured(
                        None, n % 6, n, n + 1, PixelFormat.RGB8, n + 2, n + 3
                    )
                    assert entry.committed
