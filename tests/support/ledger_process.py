"""A ledger process, fed by a journal that the test writes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.prepare import prepare
from ssn_agent.processes import start_process
from ssn_agent.settings import Settings
from support.ledgers import settings_in
from support.mosquitto import Subscriber
from support.records import FRAME, judged


class Ledger:
    """A ledger process, fed by a journal that the test writes."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        prepare(settings)
        self.journal = Journal(RuntimeFiles(settings.runtime_dir).journal("left"))
        resolved = settings.runtime_dir / "settings.json"
        resolved.write_text(settings.model_dump_json())
        self.log = log
        self._command = [sys.executable, "-m", "ssn_agent.ledger.process", str(resolved)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self._command, str(os.getpid())], stderr=log)

    def start_as_the_supervisor_does(self) -> "subprocess.Popen[bytes]":
        """Start it with signals held back until it listens."""
        self.process = start_process([*self._command[2:], str(os.getpid())])
        return self.process

    def end(self, how: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)  # an orderly end waits for deadline, disk and broker

    def part(
        self,
        outcome: Outcome,
        deadline_s: float = 60.0,
        *,
        heatmap: bool = False,
        image: bool = False,
    ) -> int:
        """Let a part come, and be judged at once."""
        now = time.monotonic_ns()
        deadline = now + int(deadline_s * 1e9)
        sequence = self.journal.accept(Accepted(now, time.time_ns(), deadline, None, None))
        self.journal.capture(sequence, FRAME)
        self.journal.finish(
            sequence, judged(outcome, time.monotonic_ns(), heatmap=heatmap, image=image)
        )
        return sequence

    def committed(self, sequence: int) -> bool:
        """Say whether the journal has a part's commit."""
        entry = self.journal.read(sequence)
        return entry is not None and entry.committed


@contextmanager
def fed_ledger(folder: Path, port: int, **settings: Any) -> Iterator[Ledger]:
    """Prepare a ledger of one camera `left`; a process that runs at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        given = {"broker": {"port": port}, **settings}
        resolved = settings_in(folder, runtime_dir=Path(runtime), **given)
        made = Ledger(resolved, folder / "ledger.log")
        try:
            yield made
        finally:
            made.journal.close()
            if made.process is not None and made.process.poll() is None:
                made.process.kill()
                made.process.wait()


def verdicts(subscriber: Subscriber) -> list[tuple[int, str, bool]]:
    """Return (sequence, verdict, durable) of what the broker has passed on."""
    messages = [m for m in subscriber.received() if m.topic.endswith("/verdict")]
    loaded = [json.loads(message.payload) for message in messages]
    return [(m["sequence"], m["verdict"], m["durable"]) for m in loaded]
