"""The agent as a station runs it: its own processes, started by its command."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.waiting import wait_until

ENDS_WITHIN_S = 60.0


@dataclass
class Agent:
    """A station: its folders, its settings file, and at times a running agent."""

    folder: Path
    runtime: Path
    port: int
    camera: dict[str, Any]
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Cameras beside `left`, by name."""
    top: dict[str, Any] = field(default_factory=dict)
    """Settings outside of all tables, or a dictionary a table."""
    environment: dict[str, str] = field(default_factory=dict)
    """Beside our own."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def config(self) -> Path:
        """Return the settings file, written anew."""
        path = self.folder / "agent.toml"
        lines = [
            f"data_dir = {_toml(self.folder / 'data')}",
            f"runtime_dir = {_toml(self.runtime)}",
        ]
        lines += [f"{key} = {_toml(v)}" for key, v in self.top.items() if not isinstance(v, dict)]
        tables = {key: value for key, value in self.top.items() if isinstance(value, dict)}
        for name, camera in {"left": self.camera, **self.others}.items():
            below = {k: v for k, v in camera.items() if isinstance(v, dict)}
            tables[f"cameras.{name}"] = {k: v for k, v in camera.items() if k not in below}
            tables |= {f"cameras.{name}.{key}": table for key, table in below.items()}
        for name, table in {"broker": {"port": self.port}, **tables}.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(v)}" for key, v in table.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, *arguments: str) -> None:
        """Start `ssn-agent run`."""
        command = [sys.executable, "-m", "ssn_agent.cli", "run", "-c", str(self.config), *arguments]
        with (self.folder / "agent.log").open("ab") as log:
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        assert self.process is not None
        return self.process.wait(ENDS_WITHIN_S)

    def stop(self) -> int:
        """End it in order and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def run_once(self) -> None:
        """Run until every camera has come to its end."""
        self.start("--once")
        assert self.wait() == 0, self.log()

    def child(self, module: str, camera: str | None = None) -> psutil.Process:
        """Return the running process of a module, such as `inference`; of a camera's, if named."""
        name = f"ssn_agent.{module}.process"
        found: list[psutil.Process] = []

        def look() -> bool:
            assert self.process is not None
            children = psutil.Process(self.process.pid).children()
            wanted = [name] if camera is None else [name, camera]
            found[:] = [child for child in children if _runs(child, wanted)]
            return bool(found)

        wait_until(look, 20, f"no {module} process")
        return found[0]

    def log(self) -> str:
        """Return what the agent has logged."""
        return (self.folder / "agent.log").read_text()

    def query(self, sql: str) -> list[Any]:
        """Read the ledger with SQLite itself."""
        path = self.folder / "data" / "ledger.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # the agent is just making it
                    return []
                raise

    def verdicts(self) -> int:
        """Return how many verdicts the ledger holds."""
        rows = self.query("SELECT count(*) FROM verdicts")
        return int(rows[0][0]) if rows else 0

    def wait_for_more(self, count: int) -> None:
        """Wait until the ledger holds so many verdicts more than now."""
        before = self.verdicts()
        wait_until(lambda: self.verdicts() >= before + count, 30, f"no {count} verdicts more")


@contextmanager
def station(folder: Path, port: int, **camera: Any) -> Iterator[Agent]:
    """Make a station with one camera `left`; whatever runs at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        agent = Agent(folder, Path(runtime), port, camera)
        try:
            yield agent
        finally:
            if agent.process is not None and agent.process.poll() is None:
                children = psutil.Process(agent.process.pid).children()
                agent.process.kill()
                agent.process.wait()
                psutil.wait_procs(children, timeout=5)


def _runs(process: psutil.Process, arguments: list[str]) -> bool:
    try:
        return set(arguments) <= set(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _toml(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value)
