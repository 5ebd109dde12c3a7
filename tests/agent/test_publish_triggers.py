"""Triggers by MQTT: counted by the camera's capture process before the broker may forget them."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.frames.layout import SPILL_RECORDS
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.publish.events import Arrived, Subscribed
from ssn_agent.publish.mqtt import BrokerLink
from ssn_agent.publish.settings import BrokerSettings
from ssn_agent.publish.triggers import MAX_WAITING, TriggerForwarder
from ssn_contract.topics import Station, Topics
from support.capture import CaptureProcess, Input, capture_process
from support.mosquitto import Mosquitto, program
from support.waiting import wait_until

TOPIC = Topics(Station()).trigger("left")


class Ledger:
    """What the ledger process does for triggers, one life of it."""

    def __init__(self, broker: Mosquitto, capture: CaptureProcess) -> None:
        self._bell = Doorbell(capture.files.ledger_bell)
        self.link = BrokerLink(
            BrokerSettings(port=broker.port), "ssn-test", Ringer(capture.files.ledger_bell)
        )
        sockets = {"left": (TOPIC, capture.files.triggers("left"))}
        self.triggers = TriggerForwarder(sockets, self.link.acknowledge)
        self.arrived: list[Arrived] = []
        self.link.start("ssn/status", "offline", self.triggers.topics)
        self.is_subscribed = False
        wait_until(lambda: self.turn().is_subscribed, 20, "not subscribed")

    def turn(self) -> "Ledger":
        self._bell.wait(0.02)
        for event in self.link.events():
            if isinstance(event, Arrived | Subscribed):
                self.triggers.take(event)
                self.is_subscribed |= isinstance(event, Subscribed)
            if isinstance(event, Arrived):
                self.arrived.append(event)
        self.triggers.turn()
        return self

    def close(self) -> None:
        self.link.stop()
        self.triggers.close()
        self._bell.close()


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[CaptureProcess]:
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime)) as made,
    ):
        yield made


def publish(broker: Mosquitto, payload: str, qos: int = 1) -> None:
    command = [program("mosquitto_pub"), "-p", str(broker.port), "-V", "5", "-q", str(qos)]
    command += ["-t", TOPIC, "-s" if payload else "-n"]
    subprocess.run(command, input=payload.encode(), check=True)


def ids(capture: CaptureProcess) -> list[str | None]:
    return [entry.accepted.trigger_id for entry in capture.entries()]


@pytest.mark.needs("mosquitto", "mosquitto_pub")
def test_a_trigger_is_acknowledged_when_the_journal_holds_it_and_counted_once(
    mosquitto: Mosquitto, capture: CaptureProcess
) -> None:
    with closing(Ledger(mosquitto, capture)) as ledger:
        publish(mosquitto, '{"id": "a", "part_id": "P-1", "product": "tile"}')
        wait_until(lambda: len(ledger.turn().arrived) == 1, 10, "not delivered")
    publish(mosquitto, '{"id": "b"}')  # while no ledger process is there
    with closing(Ledger(mosquitto, capture)) as ledger:
        wait_until(lambda: len(ledger.turn().arrived) == 2, 10, "the broker has forgotten")
        with closing(Input(capture)) as served:

            def counted() -> int:
                ledger.turn()
                served.camera.serve()
                return len(capture.entries())

            wait_until(lambda: counted() == 2, 20, "not counted")
            served.start_again()
            publish(mosquitto, '{"id": "a"}')
            publish(mosquitto, '{"id": "c"}')
            wait_until(lambda: counted() == 3, 20, "the next is not counted")
            wait_until(lambda: bool(counted() and not ledger.triggers.waiting), 20, "no answer")
            first = capture.entries()[0].accepted
            assert (first.part_id, first.product) == ("P-1", "tile")
            assert served.part("a").repeated  # one id, whichever way it comes
    assert ids(capture) == ["a", "b", "c"]
    with closing(Ledger(mosquitto, capture)) as ledger:
        publish(mosquitto, '{"id": "d"}')
        wait_until(lambda: bool(ledger.turn().arrived), 10, "not delivered")
        assert [json.loads(event.payload)["id"] for event in ledger.arrived] == ["d"]


BAD = [
    "",
    "[]",
    "{",
    '{"id": ""}',
    '{"part_id": "P-1"}',
    '{"id": "a", "partid": "P-1"}',
    '{"id": "' + "a" * 121 + '"}',
    '{"id": "a", "product": "' + "p" * 4096 + '"}',
]


@pytest.mark.needs("mosquitto", "mosquitto_pub")
def test_what_is_not_understood_is_counted_and_not_repeated_by_the_broker(
    mosquitto: Mosquitto, capture: CaptureProcess
) -> None:
    with closing(Ledger(mosquitto, capture)) as ledger:
        for payload in BAD:
            publish(mosquitto, payload)
        publish(mosquitto, "x" * 70_000)  # the broker leaves that one out
        publish(mosquitto, "no trigger", qos=0)
        wait_until(lambda: ledger.turn().triggers.refused > len(BAD), 10, "not refused")
        assert len(ledger.arrived) == len(BAD) + 1
    with closing(Ledger(mosquitto, capture)) as ledger:
        publish(mosquitto, '{"id": "good"}')
        wait_until(lambda: bool(ledger.turn().arrived), 10, "not delivered")
        assert [json.loads(event.payload)["id"] for event in ledger.arrived] == ["good"]


def forwarder(capture: CaptureProcess, acknowledged: list[Arrived]) -> TriggerForwarder:
    sockets = {"left": (TOPIC, capture.files.triggers("left"))}
    return TriggerForwarder(sockets, acknowledged.append)


def test_a_trigger_that_a_full_journal_refuses_is_acknowledged_when_there_is_room(
    capture: CaptureProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.publish.triggers.REPEAT_S", 0.01)
    acknowledged: list[Arrived] = []
    event = Arrived(TOPIC, b'{"id": "one more"}', 1, 1, 1)
    with closing(forwarder(capture, acknowledged)) as triggers, closing(Input(capture)) as served:
        for number in range(16 + SPILL_RECORDS):
            served.part(f"id-{number}")
        assert served.part("x").status == "refused"
        triggers.take(event)

        def is_acknowledged() -> bool:
            triggers.turn()
            served.camera.serve()
            return bool(acknowledged)

        assert not any(is_acknowledged() for _ in range(5))
        for entry in capture.entries():
            capture.journal.commit(entry.sequence)
        wait_until(is_acknowledged, 10, "not counted")
    assert acknowledged == [event]
    assert ids(capture)[-1] == "one more"


def test_triggers_without_an_acknowledgement_do_not_pile_up_while_capture_is_away(
    capture: CaptureProcess,
) -> None:
    with closing(forwarder(capture, [])) as triggers:
        for number in range(MAX_WAITING + 5):
            payload = json.dumps({"id": str(number)}).encode()
            triggers.take(Arrived(TOPIC, payload, 0, 0, 1))
        assert triggers.refused == 5
        triggers.take(Arrived(TOPIC, b'{"id": "at QoS 1"}', 1, 1, 1))
        assert triggers.refused == 5


def test_a_camera_that_takes_no_triggers_any_more_has_its_messages_acknowledged(
    capture: CaptureProcess,
) -> None:
    acknowledged: list[Arrived] = []
    with closing(forwarder(capture, acknowledged)) as triggers:
        event = Arrived(Topics(Station()).trigger("right"), b'{"id": "a"}', 1, 1, 1)
        triggers.take(event)
        assert (triggers.refused, acknowledged) == (1, [event])


def test_a_topic_that_the_broker_does_not_let_us_read_is_a_problem_until_it_does(
    capture: CaptureProcess,
) -> None:
    with closing(forwarder(capture, [])) as triggers:
        triggers.take(Subscribed(f"{TOPIC}: Not authorized"))
        assert "Not authorized" in str(triggers.problem)
        triggers.take(Subscribed(None))
        assert triggers.problem is None


@pytest.mark.needs("mosquitto", "mosquitto_pub")
def test_an_acknowledgement_of_an_earlier_connection_is_not_sent_on_the_next_one(
    mosquitto: Mosquitto, capture: CaptureProcess
) -> None:
    with closing(Ledger(mosquitto, capture)) as ledger:
        publish(mosquitto, '{"id": "a"}')
        wait_until(lambda: bool(ledger.turn().arrived), 10, "not delivered")
        (old,) = ledger.arrived
        mosquitto.kill()
        mosquitto.start()
        ledger.is_subscribed = False
        wait_until(lambda: ledger.turn().is_subscribed, 20, "not subscribed again")
        publish(mosquitto, '{"id": "b"}')
        wait_until(lambda: len(ledger.turn().arrived) == 2, 10, "not delivered")
        new = ledger.arrived[1]
        assert (new.mid, new.connection) == (old.mid, old.connection + 1)
        ledger.link.acknowledge(old)
    with closing(Ledger(mosquitto, capture)) as ledger:
        wait_until(lambda: bool(ledger.turn().arrived), 10, "acknowledged by an old number")
