"""A real broker that a test may kill, and an independent subscriber: mosquitto's own."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.waiting import wait_until

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program(name: str) -> str:
    """Return where a program is."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found is not None, f"{name} is not installed"
    return found


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Say whether something listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Mosquitto:
    """A broker; killed and started again it keeps its port."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    keeps_sessions: bool = False
    """Over a kill, as they stood at the last `save`; over `end`, as they stand."""
    lines: tuple[str, ...] = ()
    """Of its configuration, beside ours."""

    def start(self) -> None:
        """Start, and return when it answers."""
        config = self.folder / "mosquitto.conf"
        # `user`: as root it would become another, who may neither read nor write here.
        lines = [f"listener {self.port} 127.0.0.1", "user root"]
        unlimited = dict.fromkeys(("max_queued_messages", "max_inflight_messages"), "0")
        ours = {"allow_anonymous": "true", **unlimited}
        given = {line.split()[0] for line in self.lines}
        lines += [f"{key} {value}" for key, value in ours.items() if key not in given]
        if self.keeps_sessions:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        config.write_text("\n".join([*lines, *self.lines]) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([program("mosquitto"), "-c", str(config)], stderr=log)
        wait_until(lambda: answers(self.port), 10, "mosquitto does not answer")

    def save(self) -> None:
        """Have it write sessions and subscriptions to the disk."""
        assert self.process is not None
        database = self.folder / "mosquitto.db"
        before = database.stat().st_mtime_ns if database.exists() else 0
        self.process.send_signal(signal.SIGUSR1)
        wait_until(
            lambda: database.exists() and database.stat().st_mtime_ns > before,
            10,
            "mosquitto does not save",
        )

    def end(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "mosquitto.log").read_text()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running_mosquitto(
    folder: Path, *lines: str, keeps_sessions: bool = False
) -> Iterator[Mosquitto]:
    """Run a broker on a free port of 127.0.0.1, with lines of its configuration."""
    broker = Mosquitto(free_port(), folder, keeps_sessions=keeps_sessions, lines=lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@dataclass(frozen=True)
class Received:
    """A message, as the subscriber's output has it."""

    topic: str
    payload: bytes
    retained: bool


class Subscriber:
    """`mosquitto_sub` in a process of its own: it shares no code with the agent."""

    def __init__(self, port: int, folder: Path, session: str | None = None) -> None:
        """Subscribe to everything, and return when the subscription stands.

        With a `session` by that name it also gets what came while it or the broker was away.
        """
        self._path = folder / "received.txt"
        command = [program("mosquitto_sub"), "-p", str(port), "-q", "1", "-t", "ssn/#", "-t", "t"]
        # Topic, retained flag and payload in hexadecimal, a line a message.
        command += ["-F", "%t %r %x"]
        if session is not None:
            command += ["-c", "-i", session]
        with self._path.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out)
        poke = [program("mosquitto_pub"), "-p", str(port), "-t", "t", "-m", "up"]

        def stands() -> bool:
            subprocess.run(poke, check=True)
            return any(message.topic == "t" for message in self.received())

        wait_until(stands, 10, "the subscriber does not receive")

    def received(self) -> list[Received]:
        """Return all whole messages so far."""
        found = []
        for line in self._path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                topic, retained, payload = line.rstrip("\n").split(" ")
                found.append(Received(topic, bytes.fromhex(payload), retained == "1"))
        return found

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
