"""A running agent takes up certificates that were replaced, and loses nothing by it."""

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest

from support.agent import station
from support.bundles import write_brightness_bundle
from support.certificates import Plant
from support.mosquitto import Subscriber
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub", "openssl")


def test_sighup_has_the_next_verdicts_go_out_under_the_new_certificate_without_a_gap(
    tmp_path: Path,
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 60, "loop": True}
    with closing(Plant(tmp_path)) as plant:
        broker = plant.broker()
        camera = {"bundle": bundle, "source": source, "deadline_ms": 10_000}
        with (
            closing(Subscriber(broker.port, tmp_path)) as subscriber,
            station(tmp_path, broker.port, **camera) as agent,
        ):
            agent.top["broker"] = plant.settings()
            agent.start()
            agent.wait_for_more(20)
            plant.install(plant.authority.issue("box-1-renewed"), plant.ca)
            assert agent.process is not None
            agent.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "u'box-1-renewed'" in broker.log(), 20, "it does not reconnect")
            agent.wait_for_more(20)
            states = [m.payload for m in subscriber.received() if m.topic.endswith("/status")]
            assert b'"offline"' not in b"".join(states)
            assert agent.stop() == 0, agent.log()
            messages = [m for m in subscriber.received() if m.topic.endswith("/verdict")]
            numbers = [json.loads(message.payload)["sequence"] for message in messages]
            assert list(dict.fromkeys(numbers)) == list(range(1, agent.verdicts() + 1))
