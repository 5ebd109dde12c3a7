"""A capture process of one camera, without the rest of the agent, that a test may kill."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import zmq

from ssn_agent.capture.intake import Intake
from ssn_agent.capture.parts import Parts
from ssn_agent.capture.zeromq import ZeroMqInput
from ssn_agent.frames.journal import Entry
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.settings import Settings
from ssn_contract.zeromq import PartAnswer
from support.ledgers import settings_in
from support.records import new_journal
from support.waiting import wait_until

RUN = "from ssn_agent.capture.process import main; main(*sys.argv[1:])"


class CaptureProcess:
    """A camera `left` that takes parts at `bind`, on a socket file of the runtime directory.

    `source` None: a ZeroMQ one; else triggers for it are taken there, where it takes any.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Path,
        *,
        capacity: int,
        deadline_ms: float,
        source: dict[str, Any] | None = None,
    ) -> None:
        self.bind = f"ipc://{runtime}/parts"
        if source is None:
            source = {"kind": "zeromq", "bind": self.bind}
        elif source.get("trigger") == "software":
            source = {**source, "trigger_bind": self.bind}
        camera = {"source": source, "deadline_ms": deadline_ms}
        self.settings: Settings = settings_in(folder, runtime_dir=runtime, cameras={"left": camera})
        self.files = RuntimeFiles(runtime)
        PixelSlots.create(self.files.pixels("left"))
        self.journal = new_journal(self.files.journal("left"), capacity=capacity)
        self.files.settings.write_text(self.settings.model_dump_json())
        self._log = folder / "capture.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the number of its process, which has been started."""
        assert self._process is not None
        return self._process.pid

    def start(self, before: str = "") -> None:
        """Start it; `before` is Python that it runs first."""
        code = f"import sys\n{before}\n{RUN}"
        command = [sys.executable, "-c", code, str(self.files.settings), "left", str(os.getpid())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def kill(self) -> None:
        """End it with SIGKILL, where it has not ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask_to_end(self, by: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(by)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        return self._process.wait(20)

    def entries(self) -> list[Entry]:
        """Return what the journal holds."""
        self.journal.refresh()
        return list(self.journal.entries(lambda _: True))

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text() if self._log.exists() else ""


@contextmanager
def capture_process(
    folder: Path,
    runtime: Path,
    *,
    capacity: int = 16,
    deadline_ms: float = 60_000,
    source: dict[str, Any] | None = None,
) -> Iterator[CaptureProcess]:
    """Make one, not yet started; it is killed at the end."""
    made = CaptureProcess(
        folder, runtime, capacity=capacity, deadline_ms=deadline_ms, source=source
    )
    with closing(made.journal):
        try:
            yield made
        finally:
            made.kill()


def connected(
    bind: str, kind: int = zmq.DEALER, options: Sequence[int] = ()
) -> "zmq.Socket[bytes]":
    """Return a sender's socket; each of the options is set to 1."""
    peer: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    for option in (*options, zmq.IMMEDIATE):
        peer.setsockopt(option, 1)
    peer.setsockopt(zmq.LINGER, 0)
    peer.connect(bind)
    return peer


class Input:
    """The camera's socket served by the test itself, and peers beside it."""

    def __init__(self, capture: CaptureProcess) -> None:
        self.intake = Intake("left", capture.settings.cameras["left"], capture.files)
        self.bind = capture.bind
        self._triggers = capture.files.triggers("left")
        self.open()

    def start_again(self) -> None:
        """Let the next capture process begin with what is in the journal."""
        self.close()
        self.open()

    def open(self) -> None:
        """Bind, and connect the sender."""
        self.camera = ZeroMqInput(self.bind, self._triggers, Parts(self.intake))
        self.camera.open()
        self.peer = connected(self.bind)

    def ask(self, *message: bytes, peer: "zmq.Socket[bytes] | None" = None) -> PartAnswer:
        """Send a message as it is, and return the answer."""
        asking = peer or self.peer
        asking.send_multipart(message)
        wait_until(lambda: self._served(asking), 10, "no answer")
        return PartAnswer.model_validate_json(asking.recv_multipart()[-1])

    def _served(self, peer: "zmq.Socket[bytes]") -> bool:
        self.camera.serve()
        return bool(peer.poll(0))

    def part(self, trigger_id: str, pixels: Any = None, **header: Any) -> PartAnswer:
        """Send a part, or its trigger alone, and return the answer."""
        header = {"version": 1, **header}
        if pixels is None:
            return self.ask(trigger_id.encode(), json.dumps(header).encode())
        header |= zip(("height", "width", "channels"), (*pixels.shape, 1), strict=False)
        return self.ask(trigger_id.encode(), json.dumps(header).encode(), pixels.tobytes())

    def close(self) -> None:
        """Unbind."""
        self.peer.close()
        self.camera.close()
