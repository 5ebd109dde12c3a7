"""The HTTP API as a station runs it: its own process, and requests by a client that is not ours."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssn_agent.settings import Settings
from support.mosquitto import answers
from support.waiting import wait_until

TOKEN = "0123456789abcdef" * 4


def write_token(folder: Path, value: str = TOKEN) -> Path:
    """Write a token that the agent takes."""
    path = folder / "http.token"
    path.touch(0o600)
    path.write_text(value + "\n")
    return path


@dataclass(frozen=True)
class Answer:
    """What the API has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body, read."""
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: str | bytes | None = None,
    *,
    token: str | None = TOKEN,
    **headers: str,
) -> Answer:
    """Ask once, on a connection of its own."""
    named = {} if token is None else {"Authorization": f"Bearer {token}"}
    kind = {} if body is None else {"Content-Type": "application/json"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {**named, **kind, **given})
        found = connection.getresponse()
        lowered = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, lowered, found.read())
    finally:
        connection.close()


@dataclass
class HttpApi:
    """A running API."""

    port: int
    log: Path
    process: "subprocess.Popen[bytes]"

    def ask(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        """Ask it once."""
        return ask(self.port, method, path, body, token=token, **headers)

    def logged(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def http_api(settings: Settings, log: Path) -> Iterator[HttpApi]:
    """Run the API of these settings, as the supervisor would."""
    assert settings.http.port is not None
    resolved = settings.runtime_dir / "settings.json"
    resolved.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "ssn_agent.labels.process", str(resolved), str(os.getpid())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        with log.open("ab") as out:
            process = subprocess.Popen(command, stderr=out)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    api = HttpApi(settings.http.port, log, process)
    try:
        wait_until(
            lambda: answers(api.port) or process.poll() is not None, 60, "the API does not answer"
        )
        yield api
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
