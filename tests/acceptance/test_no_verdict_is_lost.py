"""The agent in its own processes, a real broker, an independent subscriber, real signals."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from ssn_contract.messages import InvalidReason, StationStatus, Verdict
from ssn_contract.topics import Station, Topics
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, Received, Subscriber, free_port
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
TOPICS = Topics(Station())


@pytest.fixture
def subscriber(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Subscriber]:
    listening = Subscriber(mosquitto.port, tmp_path)
    yield listening
    listening.close()


def verdicts_of(received: list[Received]) -> list[Verdict]:
    topic = TOPICS.verdict("left")
    return [Verdict.model_validate_json(m.payload) for m in received if m.topic == topic]


def assert_one_verdict_each(agent: Agent, received: list[Received], parts: set[str]) -> None:
    """Ledger and broker hold the same single verdict for each part, numbered without a gap."""
    rows = agent.query(
        "SELECT sequence, part_id, verdict FROM triggers JOIN verdicts ON id = trigger_id"
        " ORDER BY sequence"
    )
    assert [row[0] for row in rows] == list(range(1, len(parts) + 1))
    assert {row[1] for row in rows} == parts
    by_key: dict[int, set[str]] = {}
    for verdict in verdicts_of(received):
        by_key.setdefault(verdict.sequence, set()).add(verdict.verdict.value)
    assert by_key == {row[0]: {row[2]} for row in rows}


def test_every_image_of_a_folder_gets_one_right_verdict(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    truth = draw_parts(tmp_path / "parts", 40)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts"}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.run_once()
        received = subscriber.received()
        assert_one_verdict_each(agent, received, set(truth))
        found = {v.part_id: v for v in verdicts_of(received)}
        assert {name: v.verdict.value == "FAIL" for name, v in found.items()} == truth
        heatmaps = {m.topic: m.payload for m in received if "/heatmap/" in m.topic}
        for verdict in found.values():
            if verdict.verdict.value != "FAIL":
                continue
            (defect,) = verdict.defects
            assert (defect.x, defect.y) == (60, 30)
            assert (defect.width, defect.height) == (20, 21)  # 32 map pixels over 96 image pixels
            heatmap = TOPICS.heatmap("left", verdict.sequence)
            assert verdict.heatmap is not None
            assert verdict.heatmap.topic == heatmap
            assert Path(verdict.heatmap.file).read_bytes() == heatmaps[heatmap]
            pixels = cv2.imdecode(np.frombuffer(heatmaps[heatmap], np.uint8), cv2.IMREAD_UNCHANGED)
            assert pixels is not None
            assert pixels.shape == (32, 32)
            assert pixels[12, 17] > 128 > pixels[2, 2]
        assert len(heatmaps) == sum(truth.values())
        assert agent.query("SELECT count(DISTINCT trigger_id) FROM defects") == [(10,)]
        assert agent.query("SELECT count(*) FROM outbox WHERE published_at IS NULL") == [(0,)]


def test_status_and_model_are_retained_and_an_orderly_end_says_offline(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 4)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts"}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.run_once()
    received = subscriber.received()
    states = [
        StationStatus.model_validate_json(m.payload) for m in received if m.topic == TOPICS.status
    ]
    assert [states[0].state, states[-1].state] == ["online", "offline"]
    (model,) = [json.loads(m.payload) for m in received if m.topic == TOPICS.model("left")]
    assert model["bundle"]["name"] == "brightness"
    late_comer = Subscriber(mosquitto.port, tmp_path)
    wait_until(
        lambda: (
            {TOPICS.status, TOPICS.model("left")}
            <= {m.topic for m in late_comer.received() if m.retained}
        ),
        5,
        "status and model are not retained",
    )
    late_comer.close()


@pytest.mark.parametrize("victim", ["capture", "inference", "ledger"])
def test_a_killed_process_loses_no_verdict_and_changes_none(
    victim: str, mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 60, "loop": True}
    camera = {"bundle": bundle, "source": source, "deadline_ms": 10_000}
    with station(tmp_path, mosquitto.port, **camera) as agent:
        agent.start()
        for _ in range(3):
            agent.wait_for_more(20)
            agent.child(victim).kill()
        agent.wait_for_more(20)
        assert agent.stop() == 0, agent.log()
        assert_same_on_both_sides(agent, subscriber)


def test_a_ledger_process_that_is_killed_while_the_agent_ends_is_started_again_to_close_all(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    truth = draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 60}
    camera = {"bundle": bundle, "source": source, "deadline_ms": 20_000}
    with station(tmp_path, mosquitto.port, **camera) as agent:
        agent.start("--once")
        agent.wait_for_more(1)
        ledger = agent.folder / "data" / "ledger.sqlite"
        with closing(sqlite3.connect(ledger, isolation_level=None)) as blocker:
            blocker.execute("BEGIN EXCLUSIVE")  # the last verdicts cannot be committed
            wait_until(lambda: "came to its end" in agent.log(), 20, "the camera goes on")
            agent.child("ledger").kill()
        assert agent.wait() == 0, agent.log()
        assert_one_verdict_each(agent, subscriber.received(), set(truth))


def test_a_killed_agent_goes_on_with_the_next_number(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 60, "loop": True}
    camera = {"bundle": bundle, "source": source, "deadline_ms": 10_000}
    with station(tmp_path, mosquitto.port, **camera) as agent:
        for _ in range(2):
            agent.start()
            agent.wait_for_more(20)
            children = [agent.child(name) for name in ("capture", "inference", "ledger")]
            assert agent.process is not None
            agent.process.kill()
            agent.process.wait()
            _, alive = psutil.wait_procs(children, timeout=5)
            assert not alive, "a child outlives the supervisor"
        agent.start()
        agent.wait_for_more(20)
        assert agent.stop() == 0, agent.log()
        assert len(agent.query("SELECT DISTINCT epoch FROM streams")) == 1
        assert_same_on_both_sides(agent, subscriber)


def assert_same_on_both_sides(agent: Agent, subscriber: Subscriber) -> None:
    """Numbers without a gap; the broker got each verdict, and never two different ones."""
    rows = agent.query("SELECT sequence, verdict FROM triggers JOIN verdicts ON id = trigger_id")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    by_key: dict[int, set[str]] = {}
    for verdict in verdicts_of(subscriber.received()):
        by_key.setdefault(verdict.sequence, set()).add(verdict.verdict.value)
    assert by_key == {sequence: {verdict} for sequence, verdict in rows}
    status = [m for m in subscriber.received() if m.topic == TOPICS.status]
    online = [StationStatus.model_validate_json(m.payload) for m in status]
    assert all(s.cameras[0].triggers >= s.cameras[0].passed for s in online if s.cameras)
    stuck = "SELECT count(*) FROM outbox WHERE published_at IS NULL AND problem IS NULL"
    assert agent.query(stuck) == [(0,)]  # also where a heatmap's writer was killed over it
    kinds = Counter(verdict for _, verdict in rows)
    assert kinds["PASS"] > kinds["FAIL"] > 0


def test_a_broker_that_comes_late_gets_everything(tmp_path: Path) -> None:
    truth = draw_parts(tmp_path / "parts", 12)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    broker = Mosquitto(free_port(), tmp_path)
    source = {"kind": "folder", "path": tmp_path / "parts"}
    with station(tmp_path, broker.port, bundle=bundle, source=source) as agent:
        agent.start()
        wait_until(lambda: agent.verdicts() == 12, 20, "verdicts wait for the broker")
        assert agent.query("SELECT count(*) FROM outbox WHERE published_at IS NULL") == [(15,)]
        broker.start()
        try:
            listening = Subscriber(broker.port, tmp_path)
            wait_until(
                lambda: len(verdicts_of(listening.received())) == 12, 20, "verdicts not delivered"
            )
            assert agent.stop() == 0, agent.log()
            assert_one_verdict_each(agent, listening.received(), set(truth))
            listening.close()
        finally:
            broker.kill()


def test_a_camera_that_is_not_there_is_reported_and_taken_up_when_it_comes(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts"}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.start()

        def reported() -> bool:
            found = [m.payload for m in subscriber.received() if m.topic == TOPICS.status]
            return any(b"no such folder" in payload for payload in found)

        wait_until(reported, 15, "the missing folder is not an alarm on status")
        draw_parts(tmp_path / "new", 8)
        (tmp_path / "new").rename(tmp_path / "parts")
        wait_until(lambda: agent.verdicts() == 8, 15, "the folder is not taken up")
        assert agent.stop() == 0


def test_without_a_model_every_part_is_invalid_and_says_so(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 5)
    (tmp_path / "broken.ssn").write_bytes(b"not a bundle")
    source = {"kind": "folder", "path": tmp_path / "parts"}
    camera = {"bundle": tmp_path / "broken.ssn", "source": source}
    with station(tmp_path, mosquitto.port, **camera) as agent:
        agent.run_once()
        found = [(v.verdict.value, v.reason) for v in verdicts_of(subscriber.received())]
        assert found == [("INVALID", "no_model")] * 5


def test_more_frames_than_can_be_judged_are_invalid_not_lost(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 30)
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 500}
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.start("--once")
        agent.child("inference").suspend()  # its slots fill up while it is stopped
        wait_until(lambda: agent.verdicts() >= 20, 40, "overload holds verdicts back")
        agent.child("inference").resume()
        assert agent.wait() == 0, agent.log()
        reasons = Counter(v.reason for v in verdicts_of(subscriber.received()))
        assert reasons[InvalidReason.OVERLOAD] >= 20
        assert sum(reasons.values()) == 30
