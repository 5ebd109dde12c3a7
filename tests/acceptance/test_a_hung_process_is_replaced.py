"""The agent in its own processes, one of each kind made to hang: each is replaced, nothing lost."""

import os
import signal
from pathlib import Path

import pytest

from ssn_contract.messages import StationStatus
from ssn_contract.topics import Station, Topics
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, Subscriber
from support.parts import many_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
CHILDREN = {
    "ledger": ("ledger", None),
    "inference": ("inference", None),
    "capture:left": ("capture", "left"),
    "capture:stuck": ("capture", "stuck"),
    "capture:well": ("capture", "well"),
}


def pids(agent: Agent) -> dict[str, int]:
    return {name: agent.child(*which).pid for name, which in CHILDREN.items()}


def test_what_hangs_is_replaced_what_does_not_is_left_alone_and_every_part_has_one_verdict(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    parts = many_parts(tmp_path / "parts", 3000)
    stuck = tmp_path / "stuck"
    stuck.mkdir()
    os.mkfifo(stuck / "part.png")  # to open it takes for ever, as a driver may
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    camera = {"bundle": bundle, "deadline_ms": 20_000}
    moving = {"kind": "folder", "path": parts, "fps": 20}
    with station(tmp_path, mosquitto.port, **camera, source=moving) as agent:
        agent.others = {
            "well": {**camera, "source": {**moving, "fps": 5}},
            "stuck": {**camera, "source": {"kind": "folder", "path": stuck, "fps": 20}},
        }
        subscriber = Subscriber(mosquitto.port, tmp_path)
        agent.start()
        agent.wait_for_more(10)
        before = pids(agent)
        for name in ("ledger", "inference", "capture:left"):
            os.kill(before[name], signal.SIGSTOP)

        def newest() -> StationStatus | None:
            topic = Topics(Station()).status
            found = [m.payload for m in subscriber.received() if m.topic == topic]
            status = StationStatus.model_validate_json(found[-1]) if found else None
            return status if status and status.state == "online" else None

        def replaced() -> bool:
            status = newest()
            return status is not None and all(
                (process.hung > 0) == (process.name != "capture:well")
                and process.state == "running"
                for process in status.processes
            )

        wait_until(replaced, 30, f"not every hung process was replaced: {newest()}")
        after = pids(agent)
        assert {name for name in after if after[name] == before[name]} == {"capture:well"}
        status = newest()
        assert status is not None
        assert "capture:stuck: made no progress" in ";".join(status.alarms)
        agent.wait_for_more(10)
        assert agent.stop() == 0, agent.log()
        rows = agent.query(
            "SELECT camera, sequence FROM streams JOIN triggers ON stream_id = streams.id"
            " JOIN verdicts ON trigger_id = triggers.id ORDER BY camera, sequence"
        )
        for name in ("left", "well"):
            numbers = [sequence for camera, sequence in rows if camera == name]
            assert numbers == list(range(1, len(numbers) + 1))
        subscriber.close()
