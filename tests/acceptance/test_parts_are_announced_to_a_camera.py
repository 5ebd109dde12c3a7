"""A camera that takes a frame for each part announced by MQTT: the right frame, in order, once."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ssn_contract.topics import Station, Topics
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, Subscriber
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
TOPICS = Topics(Station())
PARTS = 100


def is_bad(number: int) -> bool:
    return number % 3 == 0


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Agent]:
    """A station whose camera shows part after part, one for each trigger: every third is bright."""
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PARTS + 1):
        base = 220 if is_bad(number) else 20
        image = rng.integers(base, base + 30, (48, 64), dtype=np.uint8)
        assert cv2.imwrite(str(images / f"{number:04d}.png"), image)
    source = {"kind": "folder", "path": str(images), "trigger": "software"}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as made:
        yield made


@pytest.fixture
def controller(mosquitto: Mosquitto) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "plc", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def announce(controller: mqtt.Client, name: str) -> None:
    trigger = json.dumps({"id": f"plc-{name}", "part_id": name, "product": "tile"})
    controller.publish(TOPICS.trigger("left"), trigger, qos=1).wait_for_publish(10)


def start(agent: Agent, controller: mqtt.Client, name: str) -> None:
    """Start the agent and announce its first part, until it is there: a repeated id is the same."""

    def has_a_verdict() -> bool:
        announce(controller, name)
        return agent.verdicts() == 1

    agent.start()
    wait_until(has_a_verdict, 60, "the first part has no verdict")


def found(agent: Agent) -> list[tuple[str, str, str | None]]:
    """Return part id, verdict and reason of all triggers, in their order."""
    return agent.query(
        "SELECT part_id, verdict, reason FROM triggers JOIN verdicts ON id = trigger_id "
        "ORDER BY sequence"
    )


def test_each_announced_part_gets_the_verdict_on_its_own_frame_in_order(
    agent: Agent, controller: mqtt.Client, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        start(agent, controller, "P-0")
        for number in range(1, PARTS):
            announce(controller, f"P-{number}")
            wait_until(lambda: agent.verdicts() > number, 20, f"no verdict on {number}")  # noqa: B023 -- called at once
        assert agent.stop() == 0, agent.log()
        messages = [json.loads(m.payload) for m in subscriber.received() if "verdict" in m.topic]
    expected = [(f"P-{n}", "FAIL" if is_bad(n) else "PASS", None) for n in range(PARTS)]
    assert found(agent) == expected
    assert [(m["part_id"], m["verdict"], m["reason"]) for m in messages] == expected
    assert {m["product"] for m in messages} == {"tile"}
    assert all(m["frame"]["captured_at"] >= m["triggered_at"] for m in messages)


def test_three_parts_at_once_are_one_verdict_and_two_overruns_and_nothing_slips(
    agent: Agent, controller: mqtt.Client
) -> None:
    start(agent, controller, "before")
    for name in ("a", "b", "c", "d", "e"):
        trigger = json.dumps({"id": name, "part_id": name})
        controller.publish(TOPICS.trigger("left"), trigger, qos=1)
    wait_until(lambda: agent.verdicts() == 6, 20, "parts without a verdict")
    announce(controller, "after")
    wait_until(lambda: agent.verdicts() == 7, 20, "no verdict after")
    assert agent.stop() == 0, agent.log()
    rows = found(agent)
    assert [row[0] for row in rows] == ["before", "a", "b", "c", "d", "e", "after"]
    # Picture by picture: each trigger that was not an overrun took the next one.
    judged = [row for row in rows if row[2] is None]
    assert [row[1] for row in judged] == [
        "FAIL" if is_bad(n) else "PASS" for n in range(len(judged))
    ]
    assert {row[2] for row in rows} <= {None, "overrun"}
    assert rows[1][2] is None
