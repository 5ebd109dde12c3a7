"""How a station does, for people and for Prometheus: what it says adds up, whatever dies."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

import ssn_agent
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.supervisor.note import read_note
from ssn_contract.messages import InvalidReason
from ssn_contract.metrics import StationMetrics
from ssn_contract.topics import Station, Topics
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.capture import connected
from support.metrics import Scrape, scrape
from support.mosquitto import Mosquitto, Subscriber, free_port
from support.parts import draw_parts
from support.scenes import GOOD, blurred, scene, with_gain
from support.waiting import wait_until

TOPICS = Topics(Station())
UNFIT = {
    "dark": with_gain(scene(101), 0.15),
    "blown_out": with_gain(scene(102), 4),
    "out_of_focus": blurred(scene(103), 8),
    "moved": scene(104, right=0.25),
    "wrong_size": scene(105, side=96),
}
"""By the reason that the picture gives."""
SOURCES = Path(ssn_agent.__file__).parent
GIVEN_TODAY = {
    InvalidReason[name]
    for path in SOURCES.rglob("*.py")
    for name in re.findall(r"\bInvalidReason\.([A-Z_]+)\b", path.read_text("utf-8"))
}


class Sender:
    """A program that sends parts to a camera of kind `zeromq`."""

    def __init__(self, bind: str) -> None:
        self._socket: zmq.Socket[bytes] = connected(bind)

    def send(self, trigger_id: str, pixels: Any = None) -> dict[str, Any]:
        """Send a part, or its trigger alone; return the answer."""
        message = [trigger_id.encode(), b'{"version": 1}']
        if pixels is not None:
            height, width = pixels.shape
            header = {"version": 1, "height": height, "width": width, "channels": 1}
            message = [trigger_id.encode(), json.dumps(header).encode(), pixels.tobytes()]
        for _ in range(100):  # the camera may not have bound yet
            with suppress(zmq.Again):
                self._socket.send_multipart(message, zmq.NOBLOCK)
            if self._socket.poll(200):
                answer: dict[str, Any] = json.loads(self._socket.recv())
                return answer
        pytest.fail("no answer")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as made:
        yield Path(made)


def run_status(agent: Agent, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ssn_agent.cli", "status", "-c", str(agent.config)]
    return subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)


def answers(port: int) -> bool:
    with suppress(OSError):
        return bool(scrape(port).labels("ssn_triggers_total"))
    return False


def wait_for_verdicts(port: int, camera: str, count: int) -> None:
    """Wait until the endpoint counts so many of a camera's."""

    def counted() -> bool:
        return scrape(port).sum("ssn_verdicts_total", camera=camera) == count

    wait_until(counted, 40, f"no {count} verdicts of {camera}")


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_every_reason_that_the_agent_gives_is_counted_on_all_its_faces(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    knowing = write_brightness_bundle(tmp_path / "knowing.ssn", good=GOOD)
    draw_parts(tmp_path / "parts", 4)
    (tmp_path / "parts" / "p0001.png").write_bytes(b"no image")
    files = {"kind": "folder", "path": tmp_path / "parts"}
    fed, hasty = ({"kind": "zeromq", "bind": f"ipc://{folder}/{name}"} for name in ("fed", "hasty"))
    port = free_port()
    patient = {"deadline_ms": 30_000}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=files, **patient) as agent:
        agent.top = {"metrics": {"port": port}}
        agent.others = {
            "bare": {"source": files, **patient},
            "fed": {"bundle": knowing, "source": fed, **patient},
            "hasty": {"bundle": bundle, "source": hasty, "deadline_ms": 100},
        }
        with (
            closing(Subscriber(mosquitto.port, tmp_path)) as subscriber,
            closing(Sender(fed["bind"])) as to_fed,
            closing(Sender(hasty["bind"])) as to_hasty,
        ):
            agent.start()
            wait_until(lambda: answers(port), 60, "the endpoint does not answer")
            first = scrape(port)
            named = {labels["reason"] for labels in first.labels("ssn_verdicts_total")}
            assert named == {"", *(reason.value for reason in InvalidReason)}

            to_hasty.send("late")  # and no frame
            agent.child("inference").suspend()
            for number in range(8):  # there are six slots
                to_fed.send(f"part-{number}", scene(number))
            agent.child("inference").resume()
            repeated = {"seen": scene(106), "frozen": scene(106)}
            # There are six slots: no more at once than these take.
            for before, pictures in ((8, UNFIT), (8 + len(UNFIT), repeated)):
                wait_for_verdicts(port, "fed", before)
                for name, picture in pictures.items():
                    to_fed.send(name, picture)
            to_fed.send("lost")
            to_fed.send("overrun")
            agent.child("capture", "fed").kill()

            expected = {
                ("left", "unreadable"): 1,
                ("bare", "no_model"): 3,
                ("bare", "unreadable"): 1,
                ("hasty", "late"): 1,
                ("fed", "overload"): 2,
                ("fed", "overrun"): 1,
                ("fed", "lost"): 1,
                ("fed", "frozen"): 1,
                **{("fed", reason): 1 for reason in UNFIT},
            }
            # `ledger` takes a disk that fails: tests/agent/test_ledger_process_disk.py; `challenge`
            # parts that are known: test_a_challenge_blocks_a_camera.py
            caused = {InvalidReason(reason) for _, reason in expected}
            assert caused == GIVEN_TODAY - {InvalidReason.LEDGER, InvalidReason.CHALLENGE}

            def invalid(found: Scrape) -> dict[tuple[str, str], float]:
                return {
                    (s.labels["camera"], s.labels["reason"]): s.value
                    for s in found.samples
                    if s.name == "ssn_verdicts_total" and s.labels["reason"] and s.value
                }

            wait_until(lambda: invalid(scrape(port)) == expected, 40, "not all are counted")
            found = scrape(port)
            found.assert_counts_add_up()
            assert found.sum("ssn_pending_triggers") == 0
            assert found.sum("ssn_triggers_total") == 4 + 4 + 17 + 1
            assert found.sum("ssn_verdict_latency_seconds_count") == 4 + 4 + 17 + 1
            died = found.sum("ssn_process_restarts_total", process="capture:fed", reason="died")
            assert died == 1

            done = run_status(agent, "--json")
            assert done.returncode == 1  # the replaced process is an alarm
            shown = StationMetrics.model_validate_json(done.stdout)

            def published() -> bool:
                newest = [m for m in subscriber.received() if m.topic == TOPICS.metrics][-1:]
                return bool(newest) and same(StationMetrics.model_validate_json(newest[0].payload))

            def same(metrics: StationMetrics) -> bool:
                counts = {
                    (c.camera, reason.value): float(count)
                    for c in metrics.cameras
                    for reason, count in c.invalid.items()
                    if count
                }
                return counts == expected

            assert same(shown)
            wait_until(published, 20, "the topic does not say the same")
            assert not any(m.retained for m in subscriber.received() if m.topic == TOPICS.metrics)
            assert agent.stop() == 0, agent.log()


def test_counts_add_up_in_every_scrape_under_load_and_while_the_ledger_process_is_killed(
    tmp_path: Path,
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 100, "loop": True}
    port = free_port()
    with station(tmp_path, free_port(), bundle=bundle, source=source) as agent:
        agent.top = {"metrics": {"port": port}}
        agent.start()
        wait_until(lambda: answers(port), 60, "the endpoint does not answer")
        seen = [scrape(port)]

        def goes_on() -> bool:
            seen.append(scrape(port))
            return seen[-1].sum("ssn_triggers_total") >= goal

        for kill in (False, True):
            if kill:
                agent.child("ledger").kill()
            goal = seen[-1].sum("ssn_triggers_total") + 100
            wait_until(goes_on, 60, "triggers are not counted")
        for found in seen:
            found.assert_counts_add_up()
        triggers = [found.sum("ssn_triggers_total") for found in seen]
        assert triggers == sorted(triggers)
        last = seen[-1]
        assert last.sum("ssn_process_restarts_total", process="ledger", reason="died") == 1
        assert last.sum("ssn_broker_connected") == 0
        assert last.sum("ssn_alarms") >= 2  # the broker, the ledger process
        assert last.sum("ssn_undelivered_messages") >= 100


@pytest.mark.needs("mosquitto")
def test_the_status_of_a_running_agent_is_shown_live_on_a_terminal_and_once_without_one(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 4)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts"}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        none = run_status(agent)
        assert (none.returncode, none.stdout) == (3, "")
        assert "no agent runs" in none.stderr
        with closing(socket.create_server(("127.0.0.1", 0))) as other:  # the port is taken at first
            port = other.getsockname()[1]
            agent.top = {"metrics": {"port": port}}
            agent.start()
            note = RuntimeFiles(agent.runtime).supervisor
            alarm = f"metrics: 127.0.0.1:{port}: cannot be used"
            wait_until(lambda: alarm in str(read_note(note).alarms), 30, "no alarm tells of it")
        wait_until(lambda: agent.verdicts() == 4, 60, "no verdicts")
        shown, process = on_a_terminal(agent)
        try:
            wait_until(lambda: "PASS 4 at" in shown(), 20, "nothing is shown")
            wait_until(lambda: run_status(agent).returncode == 0, 20, "it stays unwell")
            once = run_status(agent)
            assert "PASS 4 at" in once.stdout
            assert "no alarms" in once.stdout
            assert answers(port)
            assert agent.stop() == 0, agent.log()
            wait_until(lambda: "no agent runs" in shown(), 20, "the end is not shown")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def on_a_terminal(agent: Agent) -> tuple[Any, "subprocess.Popen[bytes]"]:
    """Start it in a pseudo-terminal; return what reads all that it has drawn, without colours."""
    ours, theirs = pty.openpty()
    # A shell's job in the background, as these tests may be, has Ctrl-C ignored, and its children.
    heed = ["env", "--default-signal=INT"]
    command = [*heed, sys.executable, "-m", "ssn_agent.cli", "status", "-c", str(agent.config)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.set_blocking(ours, False)
    drawn = bytearray()

    def shown() -> str:
        with suppress(BlockingIOError, OSError):
            while data := os.read(ours, 65536):
                drawn.extend(data)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode(errors="replace"))

    return shown, process
