"""The agent as systemd sees it: what it is told, and settings that are read again while it runs."""

import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import load_settings
from ssn_agent.supervisor.note import read_note
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import free_port
from support.parts import draw_parts
from support.waiting import wait_until


class Manager:
    """The side of sd_notify(3) that listens."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.told: list[str] = []

    def heard(self, message: str) -> int:
        """Return how often a message of this kind has come."""
        while True:
            try:
                self.told.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return sum(told.startswith(message) for told in self.told)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    address = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with closing(Manager(address)) as listening:
        yield listening


def read_again(agent: Agent, manager: Manager, config: str | None = None) -> None:
    """Change the settings file, send SIGHUP, and wait until it is heeded."""
    path = agent.config  # written anew
    if config is not None:
        path.write_text(config)
    before = manager.heard("RELOADING=1\nMONOTONIC_USEC=")
    ready = manager.heard("READY=1")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.heard("RELOADING=1") > before, 20, "SIGHUP is not heeded")
    wait_until(lambda: manager.heard("READY=1") > ready, 20, "the reload does not end")


def test_systemd_hears_when_it_runs_reloads_and_ends_and_settings_change_between_two_parts(
    manager: Manager, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 30, "loop": True}
    camera = {"bundle": bundle, "source": source, "threshold": 0.5, "deadline_ms": 20_000}
    with station(tmp_path, free_port(), **camera) as agent:
        agent.start()
        wait_until(lambda: manager.heard("READY=1") == 1, 100, "it is not ready")
        agent.wait_for_more(5)
        first = load_settings(agent.config).digest

        # What may change at run time.
        agent.camera["threshold"] = 0.625
        read_again(agent, manager)
        second = load_settings(agent.config).digest
        judged = "SELECT DISTINCT settings_digest, threshold FROM verdicts WHERE score IS NOT NULL"
        wait_until(lambda: len(agent.query(judged)) == 2, 20, "the threshold stays")
        assert set(agent.query(judged)) == {(first, 0.5), (second, 0.625)}
        changes = "SELECT who, old_digest, new_digest FROM settings_changes ORDER BY id"
        who = f"SIGHUP from {psutil.Process().username()}"
        assert agent.query(changes) == [("start", None, first), (who, first, second)]

        # What may not, and what is wrong.
        files = RuntimeFiles(agent.runtime)
        agent.camera["deadline_ms"] = 10_000
        read_again(agent, manager)
        said = read_note(files.supervisor).settings
        assert said is not None
        assert (said.digest, said.wants_restart) == (second, ["cameras.left.deadline_ms"])
        read_again(agent, manager, "cameras = nonsense")
        note = read_note(files.supervisor)
        assert note.settings is not None
        assert note.settings.digest == second
        assert [alarm.split(":")[0] for alarm in note.alarms] == ["settings"]
        agent.wait_for_more(5)
        assert len(agent.query(changes)) == 2

        fed = manager.heard("WATCHDOG=1")
        wait_until(lambda: manager.heard("WATCHDOG=1") > fed, 20, "the watchdog starves")
        child = agent.child("ledger")
        assert "NOTIFY_SOCKET" not in child.environ()
        assert agent.stop() == 0, agent.log()
        assert manager.heard("STOPPING=1") == 1
        statuses = [told for told in manager.told if told.startswith("STATUS=")]
        assert statuses[0] == "STATUS=preparing the ledger"
        running = "STATUS=ledger running, inference running, capture:left running"
        assert running in statuses
