"""What systemd is told, over a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.supervisor.systemd import WATCHDOG_S, Systemd


@pytest.fixture(params=["in a folder", "in no file system"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify")
    abstract = request.param == "in no file system"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(f"\0{name}" if abstract else name)
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        yield listening


def received(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_is_ready_once_and_again_after_each_reload(manager: socket.socket) -> None:
    systemd = Systemd()
    systemd.reloading()  # nobody is told of a reload before the service runs
    systemd.reloaded()
    systemd.ready()
    systemd.ready()
    before_us = time.monotonic_ns() // 1000
    systemd.reloading()
    systemd.reloaded()
    systemd.stopping()
    ready, reloading, again, stopping = received(manager)
    assert (ready, again) == ("READY=1", "READY=1")
    first, second = reloading.splitlines()
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert stopping.startswith("STOPPING=1\n")


def test_the_watchdog_is_fed_now_and_then(manager: socket.socket) -> None:
    systemd = Systemd()
    for now in (100.0, 100.1, 100.0 + WATCHDOG_S, 100.1 + WATCHDOG_S):
        systemd.well(now)
    assert received(manager) == ["WATCHDOG=1"] * 2


def test_a_manager_that_takes_nothing_holds_nobody_up_and_is_told_in_order_when_it_does(
    manager: socket.socket,
) -> None:
    systemd = Systemd()
    started = time.monotonic()
    for second in range(50):  # the kernel holds a few of them
        systemd.well(float(second))
    systemd.status("one")
    systemd.ready()
    assert time.monotonic() - started < 1.0
    fed = received(manager)
    assert 0 < len(fed) < 50
    systemd.well(100.0)
    # The one that was owed, then what came after it; one that would have been late is left out.
    assert received(manager) == ["WATCHDOG=1", "STATUS=one", "READY=1", "WATCHDOG=1"]


def test_what_is_started_from_here_does_not_talk_to_systemd(manager: socket.socket) -> None:
    Systemd()
    assert "NOTIFY_SOCKET" not in os.environ
    assert received(manager) == []


def test_a_manager_that_is_gone_costs_a_line_in_the_log(
    manager: socket.socket, tmp_path: Path
) -> None:
    systemd = Systemd()
    manager.close()
    (tmp_path / "notify").unlink(missing_ok=True)
    systemd.ready()
    systemd.stopping()


def test_without_a_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd = Systemd()
    systemd.ready()
    systemd.well(1.0)
