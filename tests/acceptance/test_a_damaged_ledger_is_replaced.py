"""The ledger's file is damaged under a running agent: set aside, and no verdict is lost."""

import os
import signal
from pathlib import Path

import pytest

from ssn_contract.messages import StationStatus, Verdict
from ssn_contract.topics import Station, Topics
from support.agent import station
from support.bundles import write_brightness_bundle
from support.ledgers import damage
from support.mosquitto import Mosquitto, Subscriber
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
TOPICS = Topics(Station())


def test_a_ledger_damaged_while_the_agent_runs_is_set_aside_and_costs_no_verdict(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 20, "loop": True}
    subscriber = Subscriber(mosquitto.port, tmp_path)
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.start()
        agent.wait_for_more(30)
        damage(tmp_path / "data" / "ledger.sqlite")
        os.kill(agent.child("ledger").pid, signal.SIGKILL)  # the next one has no page in memory
        assert agent.wait() == 1
        assert "damaged and is set aside" in agent.log()
        (aside,) = (tmp_path / "data").glob("ledger.sqlite.damaged-*[0-9]")
        agent.start()
        newer = "SELECT count(*) FROM triggers WHERE stream_id = 2"  # 1: what the journals held
        wait_until(lambda: (agent.query(newer) or [(0,)])[0][0] > 30, 30, "no verdicts any more")

        def alarm() -> bool:
            found = [m.payload for m in subscriber.received() if m.topic == TOPICS.status]
            status = StationStatus.model_validate_json(found[-1])
            return any(aside.name in text for text in status.alarms)

        wait_until(alarm, 10, "no alarm names the file that was set aside")
        assert agent.stop() == 0
        assert len(agent.query("SELECT id FROM streams")) == 2
        rows = agent.query(
            "SELECT epoch, sequence, verdict FROM triggers "
            "JOIN verdicts ON triggers.id = trigger_id JOIN streams ON streams.id = stream_id"
        )
        by_key: dict[tuple[str, int], set[str]] = {}
        for message in subscriber.received():
            if message.topic == TOPICS.verdict("left"):
                verdict = Verdict.model_validate_json(message.payload)
                key = verdict.epoch.hex, verdict.sequence
                by_key.setdefault(key, set()).add(verdict.verdict.value)
    subscriber.close()
    assert by_key == {(epoch, sequence): {verdict} for epoch, sequence, verdict in rows}
    numbers: dict[str, list[int]] = {}
    for epoch, sequence in sorted(by_key):
        numbers.setdefault(epoch, []).append(sequence)
    assert len(numbers) == 2
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
