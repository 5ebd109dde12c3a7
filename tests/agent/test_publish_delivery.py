"""From a real ledger over a real line to a real broker: nothing lost, and order kept per camera."""

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Decision, Outcome
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.publish import refusals
from ssn_agent.publish.events import Connected, Event
from ssn_agent.publish.historical import HISTORICAL_AFTER_S
from ssn_agent.publish.mqtt import BrokerLink
from ssn_agent.publish.outbox import Delivery, Outbox
from support.ledgers import decided, open_writer, rows, settings_in
from support.mosquitto import Mosquitto, Subscriber, free_port, running_mosquitto
from support.records import EPOCH, FRAME, START_UTC_NS, judged, new_journal, trigger
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
CAMERAS = ("left", "right")
WAITING = "SELECT count(*) FROM outbox WHERE published_at IS NULL"


class Box:
    """What the ledger process does of publishing: two cameras, one outbox, one line."""

    def __init__(self, folder: Path, runtime: Path, port: int) -> None:
        self.settings = settings_in(
            folder, CAMERAS, broker={"port": port}, runtime_dir=str(runtime)
        )
        self.writer = open_writer(self.settings)
        self._journals: dict[str, Journal] = {}
        for camera in CAMERAS:
            self.writer.open_stream(camera, EPOCH)
            journal = new_journal(runtime / camera, capacity=4096, camera=camera)
            self._journals[camera] = journal
        self._bell = Doorbell(runtime / "bell")
        self.link = BrokerLink(self.settings.broker, "ssn-box", Ringer(runtime / "bell"))
        self.outbox = Outbox(self.link, self.writer)
        self.outbox.open()
        self.events: list[Event] = []
        self.link.start("ssn/will", "offline")

    def commit(self, count: int, outcome: Outcome = Outcome.PASS, *cameras: str) -> None:
        """Commit so many verdicts of each camera, the cameras in turn."""
        found = []
        for _ in range(count):
            for camera in cameras or CAMERAS:
                journal = self._journals[camera]
                sequence = journal.accept(trigger())
                journal.capture(sequence, FRAME)
                journal.finish(sequence, judged(outcome))
                entry = journal.read(sequence)
                assert entry is not None
                decision = Decision(outcome, None, 12_500_000, START_UTC_NS + 12_500_000)
                found.append(decided(self.settings, journal, entry, decision))
        self.outbox.wake(self.writer.write(found, Delivery()))

    def turn(self) -> "Box":
        self._bell.wait(0.01)
        for event in self.link.events():
            self.events.append(event)
            self.outbox.take(event)
        self.outbox.pump()
        delivery = self.outbox.take_delivery()
        if delivery:
            self.writer.write([], delivery)
        return self

    def until(self, condition: Callable[[], bool], problem: str) -> None:
        """Work until the condition holds."""
        wait_until(lambda: self.turn() is self and condition(), 30, problem)

    def delivered(self) -> None:
        """Work until nothing waits."""
        self.until(lambda: self.outbox.idle, "not drained")
        assert self.waiting == 0

    @property
    def waiting(self) -> int:
        """Return how many messages the ledger holds as waiting."""
        return int(rows(self.settings, WAITING)[0][0])

    @property
    def connections(self) -> int:
        """Return how often the broker has taken us."""
        return sum(isinstance(event, Connected) for event in self.events)

    def close(self) -> None:
        self.link.stop()
        for journal in self._journals.values():
            journal.close()
        self._bell.close()


@pytest.fixture
def made() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


def verdicts(subscriber: Subscriber, camera: str) -> list[dict[str, Any]]:
    """Return a camera's verdicts as they came."""
    end = f"/{camera}/verdict"
    return [json.loads(m.payload) for m in subscriber.received() if m.topic.endswith(end)]


def first_arrivals(subscriber: Subscriber, camera: str) -> list[int]:
    """Return a camera's numbers in the order in which each came first."""
    return list(dict.fromkeys(v["sequence"] for v in verdicts(subscriber, camera)))


@pytest.mark.parametrize("end", [Mosquitto.kill, Mosquitto.end], ids=["killed", "ended"])
def test_a_broker_that_goes_while_a_backlog_is_sent_gets_the_rest_in_order_when_it_is_back(
    tmp_path: Path, runtime: Path, made: ExitStack, end: Callable[[Mosquitto], None]
) -> None:
    broker = made.enter_context(running_mosquitto(tmp_path, keeps_sessions=True))
    subscriber = made.enter_context(closing(Subscriber(broker.port, tmp_path, session="s")))
    broker.save()
    box = made.enter_context(closing(Box(tmp_path, runtime, broker.port)))
    box.commit(1000)
    box.until(lambda: box.waiting < 1600, "nothing is sent")
    end(broker)
    box.until(lambda: not box.outbox.connected, "the loss is not noticed")
    left = box.waiting
    assert 0 < left < 1600
    broker.start()
    box.delivered()
    assert box.connections == 2
    for camera in CAMERAS:
        wait_until(lambda c=camera: 1000 in first_arrivals(subscriber, c), 20, "the last one")  # type: ignore[misc]  # a default binds the loop's value
        found = first_arrivals(subscriber, camera)
        assert found == sorted(found)
        if end is Mosquitto.end:  # one that is killed may take with it what it had acknowledged
            assert found == list(range(1, 1001))
        repeated = len(verdicts(subscriber, camera)) - len(found)
        assert repeated <= box.settings.broker.inflight


def test_what_waited_for_the_broker_is_marked_and_what_is_decided_then_is_not(
    tmp_path: Path, runtime: Path, made: ExitStack
) -> None:
    broker = made.enter_context(running_mosquitto(tmp_path, keeps_sessions=True))
    subscriber = made.enter_context(closing(Subscriber(broker.port, tmp_path, session="s")))
    box = made.enter_context(closing(Box(tmp_path, runtime, broker.port)))
    box.commit(1)
    box.delivered()
    broker.end()
    box.until(lambda: not box.outbox.connected, "the loss is not noticed")
    box.commit(2)
    waits_until = time.monotonic() + HISTORICAL_AFTER_S
    box.until(lambda: time.monotonic() > waits_until, "the clock stands still")
    broker.start()
    box.delivered()
    box.commit(1)
    box.delivered()
    wait_until(lambda: 4 in first_arrivals(subscriber, "right"), 10, "not delivered")
    marks = {v["sequence"]: v["historical"] for v in verdicts(subscriber, "right")}
    assert marks == {1: False, 2: True, 3: True, 4: False}


@pytest.mark.parametrize("queue", ["0", "100000"], ids=["and ends the connection", "and goes on"])
def test_a_topic_that_the_broker_refuses_holds_up_no_other_camera_and_comes_in_order_later(
    tmp_path: Path, runtime: Path, made: ExitStack, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    # Mosquitto 2.0.11 without a bound to its queues ends the connection at each refusal.
    monkeypatch.setattr(refusals, "PAUSE_S", 0.2)
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic write t\ntopic write ssn/+/+/+/+/left/#\n")
    lines = (f"acl_file {rules}", f"max_queued_messages {queue}")
    broker = made.enter_context(running_mosquitto(tmp_path, *lines))
    subscriber = made.enter_context(closing(Subscriber(broker.port, tmp_path)))
    box = made.enter_context(closing(Box(tmp_path, runtime, broker.port)))
    box.until(lambda: box.outbox.connected, "not connected")
    box.commit(300)
    box.until(lambda: box.waiting == 300, "the other camera waits, too")
    box.until(lambda: box.outbox.connected, "not connected")
    assert "right/verdict: Not authorized" in str(box.outbox.problem)
    box.commit(20)
    box.until(lambda: box.waiting == 320, "the other camera waits, too")
    assert first_arrivals(subscriber, "right") == []
    rules.write_text("topic readwrite #\n")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    box.delivered()
    assert box.outbox.problem is None
    for camera in CAMERAS:
        wait_until(lambda c=camera: 320 in first_arrivals(subscriber, c), 20, "the last one")  # type: ignore[misc]  # a default binds the loop's value
        assert first_arrivals(subscriber, camera) == list(range(1, 321))
    assert box.connections == 1 or queue == "0"


def test_a_verdict_too_large_for_the_broker_waits_for_one_that_takes_it(
    tmp_path: Path, runtime: Path, made: ExitStack
) -> None:
    box = made.enter_context(closing(Box(tmp_path, runtime, (port := free_port()))))
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.PASS):
        box.commit(1, outcome, "left")
    (passed,), (failed,), _ = rows(box.settings, "SELECT length(payload) FROM outbox")
    limit = (passed + failed) // 2 + len("ssn/v1/site/line/station/left/verdict") + 16
    broker = Mosquitto(port, tmp_path, keeps_sessions=True, lines=(f"max_packet_size {limit}",))
    broker.start()
    made.callback(lambda: broker.kill())
    subscriber = made.enter_context(closing(Subscriber(port, tmp_path, session="s")))
    box.until(lambda: box.waiting == 1, "the others wait, too")
    assert "the broker takes packets up to" in str(box.outbox.problem)
    assert box.connections == 1
    broker.end()
    broker.lines = ()
    broker.start()
    box.until(lambda: box.waiting == 0, "it does not come")
    wait_until(lambda: len(verdicts(subscriber, "left")) == 3, 20, "not all arrive")
    assert first_arrivals(subscriber, "left") == [1, 3, 2]
    assert box.outbox.problem is None
