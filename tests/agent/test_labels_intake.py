"""Labels by MQTT and from other processes, into the ledger by its own process."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssn_agent.errors import LedgerError
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.labels.handover import hand_over
from ssn_agent.labels.intake import AT_ONCE, LabelIntake
from ssn_agent.ledger.label_writer import LabelWriter
from ssn_agent.publish.events import Arrived
from ssn_agent.settings import Settings
from ssn_contract.messages import MAX_LABEL_BYTES
from ssn_contract.topics import Station, Topics
from support.labelled import label_writer, said, write_verdicts
from support.ledger_process import Ledger, fed_ledger
from support.ledgers import rows, settings_in
from support.mosquitto import Mosquitto, Subscriber, program
from support.waiting import wait_until

TOPIC = Topics(Station()).label
KEPT = "SELECT label, labeller, source FROM labels ORDER BY id"


@pytest.fixture
def ledger(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Ledger]:
    with fed_ledger(tmp_path, mosquitto.port) as made:
        yield made


def message(ledger: Ledger, **change: Any) -> str:
    epoch = str(ledger.journal.header.epoch)
    label = {"camera": "left", "epoch": epoch, "sequence": 1, "label": "bad", "labeller": "m.weber"}
    return json.dumps({**label, **change})


def publish(broker: Mosquitto, *payloads: str) -> None:
    """Publish messages on one connection, as fast as the broker takes them."""
    command = [program("mosquitto_pub"), "-p", str(broker.port), "-V", "5", "-q", "1", "-t", TOPIC]
    lines = "".join(payload + "\n" for payload in payloads)
    subprocess.run([*command, "-l"], input=lines.encode(), check=True)


def status(subscriber: Subscriber) -> dict[str, Any]:
    found = [m.payload for m in subscriber.received() if m.topic.endswith("/status")]
    return dict(json.loads(found[-1])) if found else {}


@pytest.mark.needs("mosquitto", "mosquitto_pub", "mosquitto_sub")
def test_labels_by_mqtt_are_kept_once_also_those_that_came_while_the_process_was_dead(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    subscriber = Subscriber(mosquitto.port, tmp_path)
    ledger.start()
    ledger.part(Outcome.PASS)
    wait_until(lambda: ledger.committed(1), 20, "not committed")
    publish(mosquitto, message(ledger, id="a"))
    wait_until(lambda: len(rows(ledger.settings, KEPT)) == 1, 20, "not kept")
    ledger.end(signal.SIGKILL)
    publish(mosquitto, message(ledger, id="a"))
    publish(mosquitto, message(ledger, id="b", label="good", labeller="k.abt"))
    publish(mosquitto, message(ledger, id="c", sequence=99))
    publish(mosquitto, message(ledger, colour="red"))
    ledger.start()
    wait_until(lambda: len(rows(ledger.settings, KEPT)) == 2, 20, "not kept")
    assert rows(ledger.settings, KEPT) == [("bad", "m.weber", "mqtt"), ("good", "k.abt", "mqtt")]
    counted = {"good": 1, "bad": 0, "disagreements": 1}
    wait_until(lambda: status(subscriber).get("refused_labels") == 2, 20, "not counted")
    assert status(subscriber)["labels"] == counted
    assert ledger.end(signal.SIGTERM) == 0
    assert "number 99 of left has no verdict yet" in ledger.log.read_text()
    subscriber.close()


@pytest.mark.needs("mosquitto", "mosquitto_pub")
@pytest.mark.parametrize("away", [False, True])
def test_a_hundred_labels_at_once_are_all_kept(
    ledger: Ledger, mosquitto: Mosquitto, away: bool
) -> None:
    ledger.start()
    ledger.part(Outcome.PASS)
    wait_until(lambda: ledger.committed(1), 20, "not committed")
    publish(mosquitto, message(ledger, id="first"))
    wait_until(lambda: len(rows(ledger.settings, KEPT)) == 1, 20, "not kept")
    if away:
        ledger.end(signal.SIGKILL)
    publish(mosquitto, *(message(ledger, id=str(number)) for number in range(100)))
    if away:
        ledger.start()
    wait_until(lambda: len(rows(ledger.settings, KEPT)) == 101, 20, "not all kept")


@pytest.mark.needs("mosquitto")
def test_another_process_is_answered_when_its_label_is_on_the_disk(
    ledger: Ledger, tmp_path: Path
) -> None:
    del tmp_path
    ledger.start()
    ledger.part(Outcome.FAIL)
    wait_until(lambda: ledger.committed(1), 20, "not committed")
    socket_file = RuntimeFiles(ledger.settings.runtime_dir).labels
    item = said(1, "good", source="http", epoch=ledger.journal.header.epoch)
    kept, again = hand_over(socket_file, item), hand_over(socket_file, item)
    assert (kept.status, again.status, again.id) == ("kept", "repeated", kept.id)
    assert rows(ledger.settings, KEPT) == [("good", "m.weber", "http")]


def test_where_no_ledger_process_is_the_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.labels.handover.ANSWER_S", 0.1)
    answer = hand_over(tmp_path / "nobody", said(1, "bad"))
    assert answer.status == "unavailable"
    assert "say it again" in str(answer.problem)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_verdicts(made, tmp_path / "left.journal", [Outcome.PASS])
    return made


class Intake:
    """An intake without a broker, and what it acknowledged."""

    def __init__(self, writer: LabelWriter, folder: Path) -> None:
        self.acknowledged: list[Arrived] = []
        self.intake = LabelIntake(TOPIC, folder / "l", self.acknowledged.append, writer)

    def take(
        self, number: int, text: bytes | None = None, topic: str = TOPIC, connection: int = 1
    ) -> None:
        label = said(1, "bad", id=str(number)).label
        payload = label.model_dump_json().encode() if text is None else text
        self.intake.take(Arrived(topic, payload, number, 1, connection))


@pytest.fixture
def intake(settings: Settings, tmp_path: Path) -> Iterator[Intake]:
    made = Intake(label_writer(settings), tmp_path)
    yield made
    made.intake.close()


def test_while_the_ledger_cannot_be_written_labels_wait_and_leave_the_broker_room_for_triggers(
    settings: Settings, intake: Intake
) -> None:
    for number in range(AT_ONCE + 1):
        intake.take(number)
    intake.intake.turn(can_write=False)
    assert [event.mid for event in intake.acknowledged] == [AT_ONCE]  # one too many
    assert intake.intake.refused == 1
    intake.intake.turn(can_write=True)
    assert len(intake.acknowledged) == AT_ONCE + 1
    assert len(rows(settings, KEPT)) == AT_ONCE


def test_labels_that_wait_are_kept_and_acknowledged_when_the_broker_sends_them_again(
    settings: Settings, intake: Intake
) -> None:
    for connection in (1, 2):
        for number in range(AT_ONCE):
            intake.take(number, connection=connection)
        intake.intake.turn(can_write=False)
    assert (intake.acknowledged, intake.intake.refused) == ([], 0)
    intake.take(0, connection=2)  # the same said twice on one connection: both want their answer
    intake.intake.turn(can_write=True)
    assert {event.connection for event in intake.acknowledged} == {2}
    assert len(intake.acknowledged) == AT_ONCE + 1
    assert len(rows(settings, KEPT)) == AT_ONCE


def test_labels_that_cannot_be_written_are_an_alarm_and_are_tried_again(
    settings: Settings, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.labels.intake.RETRY_S", 0.0)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise LedgerError("disk full")

        broken.setattr(LabelWriter, "write", fail)
        intake.take(1)
        intake.intake.turn(can_write=True)
        assert (intake.acknowledged, intake.intake.alarms()) == ([], ["labels: disk full"])
    intake.intake.turn(can_write=True)
    assert len(intake.acknowledged) == 1
    assert intake.intake.alarms() == []
    assert len(rows(settings, KEPT)) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"label": "good"}',
        b'{"id": "' + b"x" * MAX_LABEL_BYTES + b'"}',
        said(1, "bad").label.model_dump_json().replace('"bad"', '"ugly"').encode(),
    ],
)
def test_what_is_not_understood_is_counted_and_not_repeated_by_the_broker(
    settings: Settings, intake: Intake, text: bytes
) -> None:
    intake.take(1, text)
    intake.take(2, topic="ssn/v1/site/line/elsewhere/label")
    intake.intake.turn(can_write=True)
    assert intake.intake.refused == 2
    assert len(intake.acknowledged) == 2
    assert rows(settings, KEPT) == []
