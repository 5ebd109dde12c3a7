"""The loop from label to better model, driven as a plant would: by commands, messages and requests.

A `Loop` is one station with a camera that a program sends parts to, a channel that it follows, and
somebody who knows which parts are bad. The acceptance test drives it, and
`benchmarks/closed_loop.py`.
"""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import zmq
from numpy.typing import NDArray

from support.agent import Agent
from support.channels import Plant
from support.children import environment
from support.http_api import ask
from support.waiting import wait_until


@dataclass(frozen=True)
class Part:
    """A part that is sent: its picture, and what somebody knows of it."""

    id: str
    picture: NDArray[np.uint8]
    bad: bool


@dataclass(frozen=True)
class Sent:
    """A part, and the number that the station gave it."""

    part: Part
    epoch: UUID
    sequence: int


def trainer(*arguments: object, limit_s: float = 600.0) -> str:
    """Run `ssn-trainer` and return its standard output."""
    command = [sys.executable, "-m", "ssn_trainer.cli", *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=limit_s, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fit(data: Path, out: Path, version: str, *options: object) -> dict[str, Any]:
    """Train a bundle called `parts` and return what the command says of it."""
    command = ["fit", data, "--out", out, "--name", "parts", "--bundle-version", version]
    found: dict[str, Any] = json.loads(trainer(*command, *options, "--json").splitlines()[-1])
    return found


@dataclass
class Loop:
    """One station, its channel, and who labels."""

    agent: Agent
    plant: Plant
    http_port: int
    bind: str
    _run: UUID = field(default_factory=uuid.uuid4)
    _count: int = 0
    _socket: "zmq.Socket[bytes] | None" = None

    def send(self, parts: Iterable[Part], pause_s: float = 0.0) -> list[Sent]:
        """Send parts as a camera's program would; each is counted when this returns."""
        return [self._send(part, pause_s) for part in parts]

    def label(self, sent: Iterable[Sent], by: str = "m.weber") -> None:
        """Say of verdicts, over the HTTP API, what somebody knows of the parts."""
        for one in sent:
            label = {
                "camera": "left",
                "epoch": str(one.epoch),
                "sequence": one.sequence,
                "label": "bad" if one.part.bad else "good",
                "labeller": by,
            }
            self._say(json.dumps(label))

    def export(self, out: Path) -> Path:
        """Have the agent's command write a data set of what is labelled."""
        self.command("ledger", "export", "--for-training", out)
        return out

    def publish(self, bundle: Path) -> None:
        """Publish to `stable`, and announce it."""
        keys = ["--keys", self.plant.key_dir, "--passphrases", self.plant.passphrases]
        trainer("publish", bundle, "--channel", self.plant.folder, "--to", "stable", *keys)
        broker = f"127.0.0.1:{self.agent.port}"
        where = ["--site", "site", "--broker", broker, "--to", "stable"]
        trainer("channel", "announce", "--channel", self.plant.folder, *where)

    def command(self, *arguments: object) -> str:
        """Run `ssn-agent` on the station's settings and return its standard output."""
        command = [sys.executable, "-m", "ssn_agent.cli", *map(str, arguments)]
        done = subprocess.run(
            [*command, "-c", str(self.agent.config)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def steps(self, version: str) -> list[str]:
        """Return the steps of a bundle's version that the ledger has, in order, each once."""
        return list(dict.fromkeys(step for step, _ in self._events(version)))

    def why(self, version: str) -> str:
        """Return the reason of a version's last step."""
        events = self._events(version)
        return str(events[-1][1]) if events else ""

    def send_until(self, parts: Iterable[Part], version: str, *steps: str, limit_s: float) -> str:
        """Send parts until a version has taken one of these steps; return which."""
        ends_at = time.monotonic() + limit_s
        for part in parts:
            self._send(part, 0.02)
            for step in self.steps(version):
                if step in steps:
                    return step
            assert time.monotonic() < ends_at, f"{version}: {self.steps(version)}"
        raise AssertionError(f"no parts left; {version}: {self.steps(version)}")

    def close(self) -> None:
        """Close the sender."""
        if self._socket is not None:
            self._socket.close(0)

    def _events(self, version: str) -> list[tuple[str, str | None]]:
        columns = "SELECT step, detail, bundle_version FROM model_events WHERE step != 'in_force'"
        rows = self.agent.query(f"{columns} ORDER BY id")
        return [(step, detail) for step, detail, of in rows if of == version]

    def _say(self, label: str) -> None:
        def is_taken() -> bool:  # its verdict may be on its way into the ledger
            return ask(self.http_port, "POST", "/v1/labels", label).status == 201

        wait_until(is_taken, 20, "a label is not taken")

    def _send(self, part: Part, pause_s: float) -> Sent:
        self._count += 1
        pixels = np.ascontiguousarray(part.picture)
        header: dict[str, Any] = {"version": 1, "part_id": part.id}
        header |= zip(("height", "width", "channels"), (*pixels.shape, 1), strict=False)
        message = [f"{self._run}-{self._count}".encode(), json.dumps(header).encode()]
        while True:
            self._sender.send_multipart([*message, pixels.tobytes()])
            while self._sender.poll(1000):
                answer = json.loads(self._sender.recv())
                if answer["id"] == f"{self._run}-{self._count}" and answer["status"] == "accepted":
                    time.sleep(pause_s)  # the line's own pace
                    return Sent(part, UUID(answer["epoch"]), answer["sequence"])

    @property
    def _sender(self) -> "zmq.Socket[bytes]":
        if self._socket is None:
            self._socket = zmq.Context.instance().socket(zmq.DEALER)
            self._socket.setsockopt(zmq.SNDHWM, 2)
            self._socket.connect(self.bind)
        return self._socket
