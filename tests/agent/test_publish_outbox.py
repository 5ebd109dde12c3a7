"""The outbox's rules: in order, at least once, a bounded number under way, nothing dropped."""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ssn_agent.publish import outbox as module
from ssn_agent.publish import refusals
from ssn_agent.publish.events import Acknowledged, Connected, Disconnected, Event
from ssn_agent.publish.historical import HISTORICAL_AFTER_S, as_historical
from ssn_agent.publish.outbox import Delivery, Outbox
from ssn_contract.messages import Verdict

GOLDEN = Path(__file__).parents[1] / "contract" / "golden" / "verdict" / "valid"


@dataclass(frozen=True)
class Row:
    """A message that waits in the ledger."""

    id: int
    topic: str = "line/left/verdict"
    payload: str | None = "x"
    file: str | None = None


@dataclass
class Ledger:
    """A `Store` in memory."""

    rows: dict[int, Row] = field(default_factory=dict)
    newest: int = 0

    def add(self, *rows: Row) -> None:
        self.rows.update({row.id: row for row in rows})
        self.newest = max(self.rows, default=self.newest)

    def undelivered(self, after: int, limit: int) -> list[Row]:
        return [self.rows[i] for i in sorted(self.rows) if i > after][:limit]

    def newest_message(self) -> int:
        return self.newest

    def note(self, delivery: Delivery) -> None:
        for row_id in [*delivery.published, *delivery.undeliverable]:
            del self.rows[row_id]


@dataclass
class Line:
    """A `Link` that keeps what it was given; like the real one it counts what is not answered."""

    window: int = 100
    sent: list[tuple[str, str | bytes]] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    connected: bool = True

    @property
    def room(self) -> int:
        return self.window - len(self.open) if self.connected else 0

    def publish(self, topic: str, payload: str | bytes) -> int | None:
        if not self.room:
            return None
        self.sent.append((topic, payload))
        self.open.add(len(self.sent))
        return len(self.sent)


class Told(Outbox):
    """An outbox whose line learns of the same events, as it does in the ledger process."""

    def __init__(self, line: Line, ledger: Ledger) -> None:
        super().__init__(line, ledger)
        self.open()
        self._line = line

    def take(self, event: Event) -> None:
        match event:
            case Connected() | Disconnected():
                self._line.open.clear()
            case Acknowledged(mid):
                self._line.open.discard(mid)
        super().take(event)


def started(rows: int, window: int = 100, *, limit: int | None = None) -> tuple[Outbox, Line]:
    """Return an outbox that is connected, with so many rows committed since it began."""
    ledger, line = Ledger(), Line(window)
    outbox = Told(line, ledger)
    ledger.add(*(Row(i, payload=f"m{i}") for i in range(1, rows + 1)))
    outbox.wake(rows)
    outbox.take(Connected(limit))
    return outbox, line


def payloads(line: Line) -> list[str | bytes]:
    return [payload for _, payload in line.sent]


def names(line: Line) -> list[str | bytes]:
    """Return what was sent without its mark, which what has waited carries."""
    return [payload[:2] for payload in payloads(line)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_sent_before_the_broker_has_taken_us_or_after_it_is_gone() -> None:
    line, ledger = Line(), Ledger()
    ledger.add(Row(1))
    outbox = Outbox(line, ledger)
    outbox.open()
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
    outbox = Outbox(line, ledger)
    outbox.open()
    outbox.take(Connected(None))
    outbox.pump()
    ledger.add(Row(1, payload="new"))
    outbox.pump()
    assert line.sent == []
    outbox.wake(1)
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


def test_what_was_under_way_when_the_connection_went_is_sent_again_before_what_follows() -> None:
    outbox, line = started(4, window=3)
    outbox.pump()
    outbox.take(Acknowledged(2, None))
    outbox.take(Disconnected("gone"))
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line) == ["m1", "m2", "m3", "m1", "m3", "m4"]
    assert outbox.problem is None


def test_a_message_that_the_line_did_not_take_any_more_comes_with_the_next_connection() -> None:
    outbox, line = started(2)
    line.connected = False  # nobody has told the outbox yet
    outbox.pump()
    line.connected = True
    outbox.take(Disconnected("gone"))
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line) == ["m1", "m2"]


LEFT, RIGHT = "line/left/verdict", "line/right/verdict"


def two_cameras(window: int = 100) -> tuple[Outbox, Line]:
    """Return an outbox with three verdicts of each camera, in turn."""
    ledger, line = Ledger(), Line(window)
    outbox = Told(line, ledger)
    ledger.add(*(Row(i, RIGHT if i % 2 else LEFT, f"m{i}") for i in range(1, 7)))
    outbox.wake(6)
    outbox.take(Connected(None))
    return outbox, line


def test_a_camera_that_the_broker_refuses_waits_in_order_and_holds_up_no_other(
    clock: list[float],
) -> None:
    outbox, line = two_cameras(window=3)
    outbox.pump()
    for mid, refusal in ((1, "Not authorized"), (2, None), (3, "Not authorized")):
        outbox.take(Acknowledged(mid, refusal))
    assert "Not authorized" in str(outbox.problem)
    assert RIGHT in str(outbox.problem)
    outbox.pump()
    assert payloads(line)[3:] == ["m4", "m6"]
    clock[0] += refusals.PAUSE_S
    outbox.pump()
    assert names(line)[5:] == ["m1"]  # the first of them alone
    outbox.take(Acknowledged(6, "Not authorized"))
    clock[0] += refusals.PAUSE_S
    outbox.pump()
    assert len(line.sent) == 6  # the pauses grow
    clock[0] += refusals.PAUSE_S
    outbox.pump()
    for mid in (4, 5, 7):
        outbox.take(Acknowledged(mid, None))
    outbox.pump()
    assert names(line)[6:] == ["m1", "m3", "m5"]
    assert outbox.problem is None
    assert sorted(outbox.take_delivery().published) == [1, 2, 4, 6]


def test_a_message_at_which_connections_end_one_after_another_is_taken_for_refused(
    clock: list[float],
) -> None:
    outbox, line = two_cameras(window=2)
    for number in range(refusals.SUSPECTED_AFTER):
        outbox.pump()
        if number == 0:
            assert payloads(line) == ["m1", "m2"]
        outbox.take(Disconnected("gone"))
        outbox.take(Disconnected("no answer"))
        assert outbox.problem == "no answer"
        outbox.take(Connected(None))
    assert "connections end at it" in str(outbox.problem)
    outbox.pump()
    assert payloads(line)[-2:] == ["m2", "m4"]
    clock[0] += refusals.PAUSE_S
    for mid in (7, 8):
        outbox.take(Acknowledged(mid, None))
    outbox.pump()
    assert names(line)[-2:] == ["m1", "m6"]


def test_of_a_camera_that_is_refused_for_long_nothing_piles_up_in_memory(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    del clock
    monkeypatch.setattr(module, "PAGE", 5)
    outbox, _ = started(1000)
    outbox.pump()
    outbox.take(Acknowledged(1, "Not authorized"))
    for _ in range(100):
        outbox.pump()
    assert len(outbox._queue) <= 5
    assert not outbox.idle


def test_a_refused_heatmap_holds_up_heatmaps_alone(tmp_path: Path, clock: list[float]) -> None:
    del clock
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture")
    ledger, line = Ledger(), Line(window=2)
    outbox = Told(line, ledger)
    for i in (1, 3, 5):
        ledger.add(Row(i, LEFT, f"m{i}"))
        ledger.add(Row(i + 1, f"line/left/heatmap/{i}", None, str(picture)))
    outbox.wake(6)
    outbox.take(Connected(None))
    outbox.pump()
    outbox.take(Acknowledged(2, "Not authorized"))
    outbox.take(Acknowledged(1, None))
    outbox.pump()
    assert payloads(line)[2:] == ["m3", "m5"]


def test_a_refused_verdict_holds_up_its_heatmap(tmp_path: Path, clock: list[float]) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture")
    ledger, line = Ledger(), Line(window=1)
    outbox = Told(line, ledger)
    ledger.add(Row(1, LEFT, "m1"), Row(2, "line/left/heatmap/1", None, str(picture)))
    outbox.wake(2)
    outbox.take(Connected(None))
    outbox.pump()
    outbox.take(Acknowledged(1, "Not authorized"))
    outbox.pump()
    assert payloads(line) == ["m1"]
    clock[0] += refusals.PAUSE_S
    outbox.pump()
    outbox.take(Acknowledged(2, None))
    outbox.pump()
    assert names(line) == ["m1", "m1", b"pi"]


def test_a_refused_picture_whose_file_has_gone_meanwhile_holds_up_nothing(
    tmp_path: Path, clock: list[float]
) -> None:
    outbox, line, (first, second) = pictures(tmp_path, False, False)
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    line.window = 1
    outbox.pump()
    outbox.take(Acknowledged(1, "Not authorized"))
    first.unlink()
    clock[0] += refusals.PAUSE_S
    outbox.pump()
    assert payloads(line) == [b"first", b"second"]


def test_a_verdict_that_has_waited_is_marked_as_historical_and_a_fresh_one_is_not(
    clock: list[float],
) -> None:
    ledger, line = Ledger(), Line()
    ledger.add(Row(1, payload='{"historical":false}'))
    outbox = Told(line, ledger)
    texts = ['{"n":2,"historical":false}', '{"n":3,"historical":true}', '{"n":4}']
    ledger.add(*(Row(i, payload=text) for i, text in enumerate(texts, start=2)))
    outbox.wake(4)
    clock[0] += HISTORICAL_AFTER_S + 0.1
    ledger.add(Row(5, payload='{"n":5,"historical":false}'))
    outbox.wake(5)
    clock[0] += HISTORICAL_AFTER_S - 0.1
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line)[1:] == [
        '{"n":2,"historical":true}',
        '{"n":3,"historical":true}',
        '{"n":4,"historical":true}',
        '{"n":5,"historical":false}',
    ]


def test_what_another_process_left_has_waited(clock: list[float]) -> None:
    del clock
    ledger, line = Ledger(), Line()
    ledger.add(Row(1, payload='{"n":1,"historical":false}'))
    outbox = Outbox(line, ledger)
    outbox.open()
    outbox.take(Connected(None))
    outbox.pump()
    assert payloads(line) == ['{"n":1,"historical":true}']


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_mark_changes_nothing_else_of_a_verdict(path: Path) -> None:
    verdict = Verdict.model_validate_json(path.read_bytes())
    marked = Verdict.model_validate_json(as_historical(verdict.model_dump_json()))
    assert marked == verdict.model_copy(update={"historical": True})


def test_a_verdict_larger_than_the_broker_takes_waits_for_one_that_does_and_stops_nothing() -> None:
    line, ledger = Line(), Ledger()
    outbox = Told(line, ledger)
    ledger.add(Row(1, payload="ä" * 60), Row(2, payload="small"))
    outbox.wake(2)
    outbox.take(Connected(100))
    outbox.pump()
    assert payloads(line) == ["small"]
    assert "up to 100" in str(outbox.problem)
    assert not outbox.take_delivery()
    outbox.take(Disconnected("gone"))
    outbox.take(Connected(None))
    outbox.pump()
    assert (payloads(line)[1], outbox.problem) == ("ä" * 60, None)


def test_a_picture_larger_than_the_broker_takes_is_noted_as_undeliverable(tmp_path: Path) -> None:
    outbox, line, (picture, _) = pictures(tmp_path, False, True)
    picture.write_bytes(bytes(100))
    outbox.take(Connected(100))
    outbox.pump()
    assert payloads(line) == ["m2"]
    (problem,) = outbox.take_delivery().undeliverable.values()
    assert "up to 100" in problem


def pictures(folder: Path, *texts: bool) -> tuple[Outbox, Line, list[Path]]:
    """Return an outbox with a row for each: a text, or a picture that is not there yet."""
    line, ledger = Line(), Ledger()
    outbox = Told(line, ledger)
    paths = [folder / f"{i}.png" for i in range(1, len(texts) + 1)]
    for i, is_text in enumerate(texts, start=1):
        topic = f"line/left/heatmap/{i}"
        file = str(paths[i - 1])
        row = Row(i, payload=f"m{i}") if is_text else Row(i, topic, payload=None, file=file)
        ledger.add(row)
    outbox.wake(len(texts))
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
    first = Told(line, ledger)
    ledger.add(Row(1, payload="m1"), Row(2, payload="m2"))
    first.wake(2)
    first.take(Connected(None))
    first.pump()
    first.take(Acknowledged(1, None))
    ledger.note(first.take_delivery())
    second = Told(line, ledger)
    second.take(Connected(None))
    second.pump()
    assert len(payloads(line)) == 3


class Station(RuleBasedStateMachine):
    """Commits, acknowledgements, refusals, reconnections, deaths and time, in any order."""

    window = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(time, "monotonic", lambda: self.now)
        self.patch.setattr(module, "PAGE", 2)
        self.folder = Path(tempfile.mkdtemp(prefix="ssn-"))
        self.ledger = Ledger()
        self.committed: dict[int, Row] = {}
        self.committed_at: dict[int, float] = {}
        self.delivered: list[int] = []
        self.restart()

    @rule()
    def restart(self) -> None:
        self.line = Line(self.window)
        self.outbox = Told(self.line, self.ledger)
        self.checked = 0
        self.open: dict[int, int] = {}
        self.awaiting: set[int] = set()
        self.old = set(self.committed)

    @rule(cameras=st.lists(st.sampled_from(["left", "right"]), min_size=1, max_size=4))
    def commit(self, cameras: list[str]) -> None:
        for camera in cameras:
            number = len(self.committed) + 1
            text = json.dumps({"id": number, "historical": False}, separators=(",", ":"))
            self._add(Row(number, f"line/{camera}/verdict", text))
        self.outbox.wake(len(self.committed))

    @rule(camera=st.sampled_from(["left", "right"]), is_there=st.booleans())
    def commit_with_picture(self, camera: str, *, is_there: bool) -> None:
        self.commit([camera])
        number = len(self.committed) + 1
        file = self.folder / str(number)
        self._add(Row(number, f"line/{camera}/heatmap/{number - 1}", None, str(file)))
        if is_there:
            file.write_text(str(number))
        self.outbox.wake(number)

    def _add(self, row: Row) -> None:
        self.ledger.add(row)
        self.committed[row.id] = row
        self.committed_at[row.id] = self.now

    @rule()
    def pictures_come(self) -> None:
        for row in self.ledger.rows.values():
            if row.file is not None:
                Path(row.file).write_text(str(row.id))

    @rule(connected=st.booleans())
    def connection(self, *, connected: bool) -> None:
        self.open.clear()
        self.outbox.take(Connected(None) if connected else Disconnected("gone"))

    @rule(seconds=st.sampled_from([0.3, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pump(self) -> None:
        self.outbox.pump()
        for mid in range(self.checked + 1, len(self.line.sent) + 1):
            self._is_in_order(self.line.sent[mid - 1])
            self.open[mid] = self._number(self.line.sent[mid - 1])
        self.checked = len(self.line.sent)
        assert len(self.open) <= self.window

    def _number(self, sent: tuple[str, str | bytes]) -> int:
        content = json.loads(sent[1])
        return int(content["id"] if isinstance(content, dict) else content)

    def _is_in_order(self, sent: tuple[str, str | bytes]) -> None:
        """No verdict leaves while one before it, of its camera, waits; nor do pictures."""
        topic, payload = sent
        number, lane = self._number(sent), topic.rpartition("/")[0]
        camera = lane.removesuffix("/heatmap")
        done = {*self.delivered, *self.open.values()}
        for before in range(1, number):
            row = self.committed[before]
            if row.topic == f"{camera}/verdict":
                assert before in done, f"{number} leaves before {before}"
        if isinstance(payload, str):
            waited = self.now - self.committed_at[number]
            is_old = number in self.old or waited > HISTORICAL_AFTER_S
            assert json.loads(payload)["historical"] is is_old

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
    def nothing_leaves_the_ledger_that_was_not_delivered_but_pictures_that_did_not_come(
        self,
    ) -> None:
        for number in self.committed.keys() - self.ledger.rows.keys() - set(self.delivered):
            assert self.committed[number].file is not None

    def teardown(self) -> None:
        self.pictures_come()
        self.connection(connected=True)
        for _ in range(3 * len(self.committed) + 5):
            self.time_passes(refusals.PAUSE_MAX_S)
            self.pump()
            for mid in sorted(self.open):
                self.outbox.take(Acknowledged(mid, None))
                self.delivered.append(self.open.pop(mid))
            self.note(noted=True)
        self.patch.undo()
        shutil.rmtree(self.folder)
        assert self.ledger.rows == {}
        verdicts = {row.id for row in self.committed.values() if row.file is None}
        assert verdicts <= set(self.delivered)
        assert self.outbox.idle


Station.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestNothingIsLostAndOrderIsKept = Station.TestCase
