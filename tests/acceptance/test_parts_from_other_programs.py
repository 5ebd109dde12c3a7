"""Another program's parts over ZeroMQ and MQTT, while the agent's processes are killed."""

import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_contract.topics import Station, Topics
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.capture import connected
from support.mosquitto import Mosquitto, Subscriber, program
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub", "mosquitto_pub")
DOCUMENT = Path(__file__).parents[2] / "docs" / "zeromq.md"
CLIENT = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)[0]
TOPICS = Topics(Station())
DARK = np.full((48, 64), 20, np.uint8)
BRIGHT = np.full((48, 64, 3), 250, np.uint8)


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Agent]:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        source = {"kind": "zeromq", "bind": f"ipc://{folder}/parts"}
        camera = {"bundle": bundle, "source": source, "deadline_ms": 10_000}
        camera["fitness"] = {"frozen_after": 0}  # the parts are two pictures, in turns
        with station(tmp_path, mosquitto.port, **camera) as made:
            yield made


def send_part() -> Any:
    """Return the client of the document, as it is written there."""
    names: dict[str, Any] = {}
    exec(CLIENT, names)  # noqa: S102 -- the document's own client
    return names["send_part"]


class Sender(threading.Thread):
    """Sends parts until it is told to stop, and keeps what it was answered."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(daemon=True)
        self._bind = agent.camera["source"]["bind"]
        self.stopping = threading.Event()
        self.answers: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        send = send_part()
        with closing(connected(self._bind)) as socket:
            while not self.stopping.wait(0.005):
                name = f"part-{len(self.answers)}"
                pixels = DARK if len(self.answers) % 4 else BRIGHT
                self.answers[name] = send(socket, name, pixels, part_id=name)

    def wait_for_more(self, count: int) -> None:
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal, 60, "parts are not answered")


def test_every_answered_part_has_its_one_verdict_under_the_number_of_the_answer(
    agent: Agent, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    sender = Sender(agent)
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        agent.start()
        sender.start()
        try:
            for victim in ("capture", "ledger", "capture", "inference", "capture"):
                sender.wait_for_more(10)
                agent.child(victim).kill()
            sender.wait_for_more(10)
        finally:
            sender.stopping.set()
            sender.join(30)
        assert not sender.is_alive(), "the last part is not answered"
        assert agent.stop() == 0, agent.log()
        verdicts: dict[int, set[str]] = {}
        for message in subscriber.received():
            if message.topic == TOPICS.verdict("left"):
                verdict = json.loads(message.payload)
                verdicts.setdefault(verdict["sequence"], set()).add(verdict["verdict"])
    answers = sender.answers
    assert {a["status"] for a in answers.values()} == {"accepted"}
    numbers = [answers[f"part-{i}"]["sequence"] for i in range(len(answers))]
    assert numbers == list(range(1, len(answers) + 1))
    rows = agent.query(
        "SELECT sequence, part_id, verdict FROM triggers JOIN verdicts ON id = trigger_id"
    )
    assert {(a["sequence"], name) for name, a in answers.items()} == {row[:2] for row in rows}
    assert verdicts == {row[0]: {row[2]} for row in rows}
    assert all(verdict in {"INVALID", "PASS" if n % 4 != 1 else "FAIL"} for n, _, verdict in rows)
    assert sum(verdict == "INVALID" for *_, verdict in rows) < len(rows) / 2


def test_triggers_by_mqtt_that_came_while_the_agent_was_away_are_counted_when_it_is_back(
    agent: Agent, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    def publish(trigger: dict[str, str]) -> None:
        command = [program("mosquitto_pub"), "-p", str(mosquitto.port), "-q", "1"]
        command += ["-t", TOPICS.trigger("left"), "-m", json.dumps(trigger)]
        subprocess.run(command, check=True)

    def statuses(subscriber: Subscriber) -> list[Any]:
        found = [m for m in subscriber.received() if m.topic == TOPICS.status]
        return [json.loads(message.payload) for message in found]

    def triggers() -> list[Any]:
        return agent.query("SELECT sequence, part_id FROM triggers ORDER BY sequence")

    with (
        closing(Subscriber(mosquitto.port, tmp_path)) as subscriber,
        closing(connected(agent.camera["source"]["bind"])) as camera,
    ):
        agent.start()
        wait_until(lambda: bool(statuses(subscriber)), 20, "not online")
        publish({"id": "a", "part_id": "P-1"})
        answer = send_part()(camera, "a", BRIGHT)  # the frame may overtake the trigger
        assert (answer["sequence"], answer["frame"]) == (1, "taken")
        wait_until(lambda: agent.verdicts() == 1, 20, "no verdict")
        assert agent.process is not None
        agent.process.kill()
        agent.wait()
        publish({"id": "b", "part_id": "P-2"})
        publish({"id": "a", "part_id": "P-1"})
        publish({"part_id": "nobody's"})
        agent.start()
        answer = send_part()(camera, "b", DARK)
        assert (answer["sequence"], answer["frame"]) == (2, "taken")
        wait_until(lambda: agent.verdicts() == 2, 20, "the second has no verdict")
        wait_until(
            lambda: statuses(subscriber)[-1]["refused_triggers"] == 1, 20, "refused, not counted"
        )
        assert agent.stop() == 0, agent.log()
    assert [row[0] for row in triggers()] == [1, 2]
    assert "Traceback" not in agent.log()
