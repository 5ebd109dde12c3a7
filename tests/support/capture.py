"""A capture process of one camera, without the rest of the agent, that a test may kill."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ssn_agent.frames.journal import Entry
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.settings import Settings
from support.ledgers import settings_in
from support.records import new_journal

RUN = "from ssn_agent.capture.process import main; main(*sys.argv[1:])"


class CaptureProcess:
    """A ZeroMQ camera `left` on a socket file of the runtime directory."""

    def __init__(self, folder: Path, runtime: Path, *, capacity: int, deadline_ms: float) -> None:
        self.bind = f"ipc://{runtime}/parts"
        source = {"kind": "zeromq", "bind": self.bind}
        camera = {"source": source, "deadline_ms": deadline_ms}
        self.settings: Settings = settings_in(folder, runtime_dir=runtime, cameras={"left": camera})
        self.files = RuntimeFiles(runtime)
        PixelSlots.create(self.files.pixels("left"))
        self.journal = new_journal(self.files.journal("left"), capacity=capacity)
        self.files.settings.write_text(self.settings.model_dump_json())
        self._log = folder / "capture.log"
        self._process: subprocess.Popen[bytes] | None = None

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
    folder: Path, runtime: Path, *, capacity: int = 16, deadline_ms: float = 60_000
) -> Iterator[CaptureProcess]:
    """Make one, not yet started; it is killed at the end."""
    made = CaptureProcess(folder, runtime, capacity=capacity, deadline_ms=deadline_ms)
    with closing(made.journal):
        try:
            yield made
        finally:
            made.kill()
