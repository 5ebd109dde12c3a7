"""What docs/contract.md shows is true: its messages, and its controller on a real broker."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contract.make_golden import FAIL, FOLDER, INVALID, LATE, PASS
from ssn_contract.schemas import MODELS
from support.mosquitto import Mosquitto
from support.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "contract.md"
ZEROMQ = (DOCS / "zeromq.md").read_text("utf-8")
CHANNELS = (DOCS / "channels.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
EPOCH = PASS["epoch"]


def test_the_messages_shown_are_golden_ones() -> None:
    golden = [json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*/valid/*.json")]
    texts = [text for language, text in BLOCKS if language == "json"]
    for document in (ZEROMQ, CHANNELS):
        texts += re.findall(r"```json\n(.*?)```", document, re.DOTALL)
    shown = [json.loads(text) for text in texts]
    assert len(shown) == len(MODELS) - 1  # a manifest is no message
    assert all(message in golden for message in shown)


def test_the_topics_table_names_every_topic() -> None:
    text = DOCUMENT.read_text("utf-8")
    for topic in (
        "{camera}/verdict",
        "{camera}/heatmap/{sequence}",
        "{camera}/model",
        "{camera}/challenge",
        "status",
        "metrics",
        "{camera}/trigger",
        "label",
        "ssn/v1/{site}/channel/{channel}",
    ):
        assert f"\n| `{topic}` |" in text
    assert "`command`" in text


@pytest.fixture
def controller(tmp_path: Path) -> Any:
    [text] = [text for language, text in BLOCKS if language == "python"]
    assert len(text.splitlines()) <= 30
    path = tmp_path / "controller.py"
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location("controller", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_controller_rejects_what_it_does_not_know(controller: Any) -> None:
    controller.DEADLINE_S = 0.0
    without_key = INVALID["verdict"]["without-key"]
    listed = {**PASS, "epoch": [EPOCH]}
    for text in ("", "{", "null", "[]", json.dumps(without_key), json.dumps(listed)):
        message = mqtt.MQTTMessage()
        message.payload = text.encode()
        controller.on_message(None, None, message)
    assert controller.verdicts == {}
    assert controller.accept(EPOCH, 41) is False


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_the_controller_accepts_a_part_on_its_own_pass_alone(
    controller: Any, mosquitto: Mosquitto, protocol: MQTTProtocolVersion
) -> None:
    subscribed: list[int] = []
    reader = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    reader.on_connect, reader.on_message = controller.on_connect, controller.on_message
    reader.on_subscribe = lambda *arguments: subscribed.append(arguments[2])
    _start(reader, mosquitto.port, lambda: bool(subscribed))
    writer = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    _start(writer, mosquitto.port, writer.is_connected)
    try:
        contradiction = {**FAIL, "sequence": PASS["sequence"]}
        waited = {**PASS, "sequence": 97, "historical": True}
        for verdict in (PASS, PASS, contradiction, FAIL, LATE, waited, {**PASS, "sequence": 99}):
            _publish(writer, controller.TOPIC, verdict)
        controller.DEADLINE_S = 10.0
        assert controller.accept(EPOCH, 99) is True  # so the others are here as well
        controller.DEADLINE_S = 0.0
        assert controller.accept(EPOCH, PASS["sequence"]) is True
        assert controller.accept(EPOCH, FAIL["sequence"]) is False
        assert controller.accept(EPOCH, LATE["sequence"]) is False
        assert controller.accept(EPOCH, 97) is False
        assert controller.accept(EPOCH, 98) is False
        assert controller.accept("another epoch", PASS["sequence"]) is False
    finally:
        for client in (reader, writer):
            client.disconnect()
            client.loop_stop()


def _start(client: mqtt.Client, port: int, is_ready: Callable[[], bool]) -> None:
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_until(is_ready, 10, "the broker does not answer")


def _publish(client: mqtt.Client, topic: str, verdict: dict[str, Any]) -> None:
    client.publish(topic, json.dumps(verdict), qos=1).wait_for_publish(10)
