"""The outbox's rules: in order, at least once, a bounded number under way, nothing dropped."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ssn_agent.publish import outbox as module
from ssn_agent.publish.mqtt import Acknowledged, Connected, Disconnected
from ssn_agent.publish.outbox import Delivery, Outbox


@dataclass(frozen=True)
class Row:
    """A message that waits in the ledger."""

    id: int
    topic: str = "t"
    payload: str | None = "x"
    file: str | None = None


@dataclass
class Ledger:
    """A `Store` in memory."""

    rows: dict[int, Row] = field(default_factory=dict)

    def add(self, *rows: Row) -> None:
        self.rows.update({row.id: row for row in rows})

    def undelivered(self, after: int, limit: int) -> list[Row]:
        return [self.rows[i] for i in sorted(self.rows) if i > after][:limit]

    def note(self, delivery: Delivery) -> None:
        for row_id in [*delivery.published, *delivery.undeliverable]:
            del self.rows[row_id]


@dataclass
class Line:
    """A `Link` that keeps what it was given."""

    sent: list[tuple[str, str | bytes]] = field(default_factory=list)

    def publish(self, topic: str, payload: str | bytes) -> int:
        self.sent.append((topic, payload))
        return len(self.sent)


def started(rows: int, window: int = 100, *, limit: int | None = None) -> tuple[Outbox, Line]:
    """Return an outbox that is connected, with so many rows waiting."""
    ledger, line = Ledger(), Line()
    ledger.add(*(Row(i, payload=f"m{i}") for i in range(1, rows + 1)))
    outbox = Outbox(line, ledger, window)
    outbox.take(Connected(limit))
    return outbox, line


def payloads(line: Line) -> list[str | bytes]:
    return [payload for _, payload in line.sent]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_sent_before_the_broker_has_taken_us_or_after_it_is_gone() -> None:
    line, ledger = Line(), Ledger()
    ledger.add(Row(1))
    outbox = Outbox(line, ledger, 10)
    outbox.pump()
    assert line.sent == []
    outbox.take(Connected(None))
    outbox.take(Disconnected("gone"))
    outbox.pump()
    assert line.sent == []
    assert outbox.problem == "gone"
    assert not outbox.idle


def test_messages_go_out_in_the_order_of_the_ledger_and_no_more_than_the_window_at_once() -> None:
    outbox, line = started(7, window=3)
    outbox.pump()
    assert payloads(line) == ["m1", "m2", "m3"]
    outbox.take(Acknowledged(2, None))
    outbox.pump()
    assert payloads(line) == ["m1", "m2", "m3", "m4"]
    assert list(outbox.take_delivery().published) == [2]
    assert not outbox.take_delivery()


def test_a_broker_that_takes_fewer_at_once_than_we_would_send_gets_fewer() -> None:
    outbox, line = started(9, window=5)
    outbox.take(Connected(None, 2))
    outbox.pump()
    assert payloads(line) == ["m1", "m2"]
    outbox.take(Disconnected("gone"))
    outbox.take(Connected(None, 65535))
    outbox.pump()
    assert payloads(line) == ["m1", "m2", "m3", "m4", "m5"]


def test_an_outbox_is_idle_only_when_all_is_acknowledged_and_noted() -> None:
    outbox, _ = started(1)
    assert not outbox.idle
    outbox.pump()
    outbox.pump()
    assert not outbox.idle
    outbox.take(Acknowledged(1, None))
    assert not outbox.idle
    outbox.take_delivery()
    assert outbox.idle


def test_what_is_committed_later_is_sent_after_a_wake() -> None:
    line, ledger = Line(), Ledger()
    outbox = Outbox(line, ledger, 5)
    outbox.take(Connected(None))
    outbox.pump()
    ledger.add(Row(1, payload="new"))
    outbox.pump()
    assert line.sent == []
    outbox.wake()
    outbox.pump()
    assert payloads(line) == ["new"]


def test_an_acknowledgement_of_something_else_is_not_ours() -> None:
    outbox, _ = started(1)
    outbox.pump()
    outbox.take(Acknowledged(99, None))
    assert not outbox.take_delivery()


def test_what_the_ledger_could_not_note_is_noted_the_next_time() -> None:
    outbox, _ = started(2)
    outbox.pump()
    outbox.take(Acknowledged(1, None))
    first = outbox.take_delivery()
    outbox.take(Acknowledged(2, None))
    outbox.put_back(first)
    assert sorted(outbox.take_delivery().published) == [1, 2]


def test_a_connection_lost_halfway_sends_nothing_twice_by_itself(clock: list[float]) -> None:
    del clock
    outbox, line = started(3, window=2)
    outbox.pump()
    outbox.take(Disconnected("gone"))
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line) == ["m1", "m2"]  # paho repeats what is under way
    assert outbox.problem is None


def test_refused_messages_are_kept_in_order_and_tried_again_after_a_pause(
    clock: list[float],
) -> None:
    outbox, line = started(5, window=3)
    outbox.pump()
    for mid in (1, 2, 3):
        outbox.take(Acknowledged(mid, "Not authorized"))
    assert outbox.problem is not None
    assert "Not authorized" in outbox.problem
    outbox.pump()
    assert len(line.sent) == 3
    clock[0] += module.REFUSAL_PAUSE_S
    outbox.pump()
    assert payloads(line)[3:] == ["m1", "m2", "m3"]
    assert not outbox.take_delivery()


def test_a_refusal_that_people_have_mended_is_no_longer_a_problem(clock: list[float]) -> None:
    outbox, _ = started(2)
    outbox.pump()
    outbox.take(Acknowledged(1, "Not authorized"))
    outbox.take(Acknowledged(2, None))  # another topic: the refusal stands
    before = outbox.problem
    clock[0] += module.REFUSAL_PAUSE_S
    outbox.pump()
    outbox.take(Acknowledged(3, None))
    assert (before is None, outbox.problem) == (False, None)
    assert sorted(outbox.take_delivery().published) == [1, 2]


def test_a_message_larger_than_the_broker_takes_is_noted_and_does_not_stop_the_rest() -> None:
    line, ledger = Line(), Ledger()
    ledger.add(Row(1, payload="ä" * 60), Row(2, payload="small"))
    outbox = Outbox(line, ledger, 10)
    outbox.take(Connected(100))
    outbox.pump()
    assert payloads(line) == ["small"]
    delivery = outbox.take_delivery()
    assert list(delivery.undeliverable) == [1]
    assert "up to 100" in delivery.undeliverable[1]


def pictures(folder: Path, *texts: bool) -> tuple[Outbox, Line, list[Path]]:
    """Return an outbox with a row for each: a text, or a picture that is not there yet."""
    line, ledger = Line(), Ledger()
    paths = [folder / f"{i}.png" for i in range(1, len(texts) + 1)]
    for i, is_text in enumerate(texts, start=1):
        row = Row(i, payload=f"m{i}") if is_text else Row(i, payload=None, file=str(paths[i - 1]))
        ledger.add(row)
    outbox = Outbox(line, ledger, 10)
    outbox.take(Connected(None))
    return outbox, line, paths


def test_a_picture_that_is_still_being_written_holds_nothing_up_and_is_sent_when_it_is_there(
    tmp_path: Path,
) -> None:
    outbox, line, (_, first, _, second) = pictures(tmp_path, True, False, True, False)
    outbox.pump()
    assert payloads(line) == ["m1", "m3"]
    for mid in (1, 2):
        outbox.take(Acknowledged(mid, None))
    assert list(outbox.take_delivery().published) == [1, 3]
    assert not outbox.idle
    second.write_bytes(b"second")
    first.write_bytes(b"first")
    outbox.pump()
    assert payloads(line)[2:] == [b"first", b"second"]


def test_a_picture_that_does_not_come_is_noted_as_undeliverable(
    tmp_path: Path, clock: list[float]
) -> None:
    outbox, line, (_, absent) = pictures(tmp_path, True, False)
    outbox.pump()
    outbox.take(Acknowledged(1, None))
    outbox.take_delivery()
    clock[0] += module.FILE_WAIT_S - 0.1
    outbox.pump()
    assert not outbox.take_delivery()
    clock[0] += 0.1
    outbox.pump()
    (problem,) = outbox.take_delivery().undeliverable.values()
    assert str(absent) in problem
    assert (payloads(line), outbox.idle) == (["m1"], True)


def test_a_picture_that_came_while_the_broker_was_away_is_sent_however_long_that_took(
    tmp_path: Path, clock: list[float]
) -> None:
    outbox, line, (picture,) = pictures(tmp_path, False)
    outbox.pump()
    outbox.take(Disconnected("gone"))
    picture.write_bytes(b"here")
    clock[0] += 10 * module.FILE_WAIT_S
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line) == [b"here"]


def test_of_many_pictures_that_are_gone_only_so_many_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_AWAITED", 2)
    outbox, line, _ = pictures(tmp_path, False, False, False, True)
    outbox.pump()
    assert payloads(line) == ["m4"]
    assert list(outbox.take_delivery().undeliverable) == [1]


def test_a_file_that_cannot_be_read_is_noted_at_once(tmp_path: Path) -> None:
    outbox, line, (folder,) = pictures(tmp_path, False)
    folder.mkdir()
    outbox.pump()
    (problem,) = outbox.take_delivery().undeliverable.values()
    assert (str(folder) in problem, payloads(line), outbox.idle) == (True, [], True)


def test_what_was_not_noted_when_the_process_died_is_sent_again_by_the_next_one() -> None:
    ledger, line = Ledger(), Line()
    ledger.add(Row(1, payload="m1"), Row(2, payload="m2"))
    first = Outbox(line, ledger, 10)
    first.take(Connected(None))
    first.pump()
    first.take(Acknowledged(1, None))
    ledger.note(first.take_delivery())
    second = Outbox(line, ledger, 10)
    second.take(Connected(None))
    second.pump()
    assert payloads(line) == ["m1", "m2", "m2"]


class Station(RuleBasedStateMachine):
    """Commits, acknowledgements, refusals, reconnections and deaths in any order."""

    window = 3

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.given_out = 0
        self.delivered: list[int] = []
        self.restart()

    @rule()
    def restart(self) -> None:
        self.line = Line()
        self.outbox = Outbox(self.line, self.ledger, self.window)
        self.open: dict[int, int] = {}

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        for _ in range(count):
            self.given_out += 1
            self.ledger.add(Row(self.given_out, payload=str(self.given_out)))
        self.outbox.wake()

    @rule(connected=st.booleans())
    def connection(self, *, connected: bool) -> None:
        self.outbox.take(Connected(None) if connected else Disconnected("gone"))

    @rule()
    def pump(self) -> None:
        self.outbox._paused_until_s = 0.0
        before = len(self.line.sent)
        self.outbox.pump()
        for mid in range(before + 1, len(self.line.sent) + 1):
            self.open[mid] = int(self.line.sent[mid - 1][1])
        assert len(self.open) <= self.window

    @precondition(lambda self: self.open)
    @rule(data=st.data(), refused=st.booleans())
    def acknowledge(self, data: st.DataObject, *, refused: bool) -> None:
        mid = data.draw(st.sampled_from(sorted(self.open)))
        row = self.open.pop(mid)
        self.outbox.take(Acknowledged(mid, "refused" if refused else None))
        if not refused:
            self.delivered.append(row)

    @rule(noted=st.booleans())
    def note(self, *, noted: bool) -> None:
        delivery = self.outbox.take_delivery()
        if noted:
            self.ledger.note(delivery)
        else:
            self.outbox.put_back(delivery)

    @invariant()
    def nothing_leaves_the_ledger_that_was_not_delivered(self) -> None:
        gone = set(range(1, self.given_out + 1)) - set(self.ledger.rows)
        assert gone <= set(self.delivered)

    def teardown(self) -> None:
        self.connection(connected=True)
        for _ in range(2 * self.given_out + 2):
            self.pump()
            for mid in sorted(self.open):
                self.outbox.take(Acknowledged(mid, None))
                self.delivered.append(self.open.pop(mid))
            self.note(noted=True)
        assert self.ledger.rows == {}
        assert set(self.delivered) == set(range(1, self.given_out + 1))
        assert self.outbox.idle


Station.TestCase.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestNothingIsLost = Station.TestCase
