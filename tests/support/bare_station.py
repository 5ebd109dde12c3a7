"""A station without its supervisor: nothing starts, ends or decides there but the test.

The agent's own processes, started as the supervisor starts them.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.prepare import prepare
from ssn_agent.settings import Settings
from support.ledgers import rows, settings_in
from support.waiting import wait_until

START_S = 180.0
"""On a machine that has much else to do."""


class BareStation:
    """Ledger, inference and a capture process a camera."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.files = RuntimeFiles(settings.runtime_dir)
        self.log = log
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start them in order, and return when inference is ready and the cameras run."""
        prepare(self.settings)
        self.files.settings.write_text(self.settings.model_dump_json())
        self._start("ledger")
        self._start("inference")
        wait_until(self.files.inference_ready.exists, START_S, "inference is not ready")
        for camera in self.settings.cameras:
            self._start("capture", camera)
        hearts = [self.files.heartbeat(f"capture:{camera}") for camera in self.settings.cameras]
        wait_until(lambda: all(heart.exists() for heart in hearts), START_S, "no camera runs")

    @property
    def inference(self) -> int:
        """Return the number of the inference process."""
        return self._processes["inference"].pid

    def stop(self) -> None:
        """End them as the supervisor does: what was counted gets its verdict."""
        captures = [name for name in self._processes if name.startswith("capture")]
        for names in (captures, ["ledger"], ["inference"]):
            for name in names:
                self._processes[name].send_signal(signal.SIGTERM)
            for name in names:
                code = self._processes[name].wait(60)
                assert code == 0, f"{name} ended with {code}; see {self.log}"

    def query(self, sql: str) -> list[Any]:
        """Read the ledger with SQLite itself."""
        return rows(self.settings, sql)

    def kill(self) -> None:
        """Kill what still runs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start(self, module: str, *camera: str) -> None:
        command: Sequence[str] = [sys.executable, "-m", f"ssn_agent.{module}.process"]
        arguments = [str(self.files.settings), *camera, str(os.getpid())]
        with self.log.open("ab") as log:
            process = subprocess.Popen([*command, *arguments], stderr=log, stdout=log)
        self._processes[":".join([module, *camera])] = process


@contextmanager
def bare_station(
    folder: Path, cameras: dict[str, dict[str, Any]], **settings: Any
) -> Iterator[BareStation]:
    """Make one; whatever runs at the end is killed. `{runtime}` in a source is its folder."""
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        for camera in cameras.values():
            bind = camera["source"].get("bind")
            if bind is not None:
                camera["source"]["bind"] = bind.format(runtime=runtime)
        resolved = settings_in(folder, (), runtime_dir=Path(runtime), cameras=cameras, **settings)
        made = BareStation(resolved, folder / "agent.log")
        try:
            yield made
        finally:
            made.kill()
