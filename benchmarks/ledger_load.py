"""How many verdicts a second the ledger process commits, publishes and marks as published.

    python benchmarks/ledger_load.py [--verdicts 40000] [--backlog 20000] [--profile FILE]

The real ledger process (`python -m ssn_agent.ledger.process`), SQLite on the file system of
--scratch, mosquitto at QoS 1 on this machine. This program writes triggers with their results into
a camera's journal as capture and inference would, as fast as they are committed; each fourth a FAIL
with four defects, 0.9 KB a message in the mean. Then the broker is ended, a backlog is written, and
the broker started again. One line of JSON: verdicts a second from the first trigger to the last
PUBACK noted, for the backlog from the broker's return; from a decision to its commit in
milliseconds; the message's size.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Captured, Defect, Outcome, Result
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.wake import Ringer
from ssn_agent.settings import Settings

PORT = 18840
DEADLINE_NS = 600 * 10**9
DEFECT = Defect(x=10, y=20, width=30, height=40, area_px=900, peak_x=22, peak_y=33, peak=0.75)
PRODUCT = "product-" * 8
PATIENCE_S = 300.0
MAX_FRESH = 64
"""Verdicts that wait for their commit while the load is sustained: what cameras hold at most."""


class Feeder:
    """Stands in for capture and inference: parts that are judged already."""

    def __init__(self, files: RuntimeFiles, ledger: "subprocess.Popen[bytes]") -> None:
        self._ledger = ledger
        self._journal = Journal(files.journal("left"))
        self._bell = Ringer(files.ledger_bell)
        self.commit_ms: list[float] = []
        self._seen = self._journal.head

    def feed(self, count: int, waiting: int) -> None:
        """Count and judge so many parts, with at most `waiting` of them not committed."""
        for number in range(count):
            while self._journal.head - self._seen >= waiting:
                self._bell.ring()
                self._look()
            now, utc = time.monotonic_ns(), time.time_ns()
            part = f"part-{number:0100d}"  # long names: a message of 1 KB
            accepted = Accepted(now, utc, now + DEADLINE_NS, part, PRODUCT)
            sequence = self._journal.accept(accepted)
            frame = Captured(None, 0, 480, 640, PixelFormat.Mono8, now, sequence)
            self._journal.capture(sequence, frame)
            self._journal.finish(sequence, _result(number, now))
        self.wait()

    def wait(self) -> None:
        """Return when all is committed."""
        while self._seen < self._journal.head:
            self._bell.ring()
            self._look()

    def close(self) -> None:
        """Let go of the files."""
        self._journal.close()
        self._bell.close()

    def _look(self) -> None:
        time.sleep(0.0005)
        if self._ledger.poll() is not None:
            sys.exit(f"the ledger process has ended with {self._ledger.returncode}")
        while self._seen < self._journal.head:
            entry = self._journal.read(self._seen + 1)
            if entry is None or entry.decision is None or not entry.committed:
                return
            took_ns = time.monotonic_ns() - entry.decision.decided_monotonic_ns
            self.commit_ms.append(took_ns / 1e6)
            self._seen += 1


def _result(number: int, now: int) -> Result:
    failed = number % 4 == 0
    return Result(
        Outcome.FAIL if failed else Outcome.PASS,
        None,
        now,
        score=0.875 if failed else 0.125,
        threshold=0.5,
        settings_digest="cd" * 32,
        bundle_digest="ab" * 32,
        bundle_name="a-bundle-of-this-line",
        bundle_version="20260504-1",
        engine="onnxruntime-cpu/fp32",
        heatmap=False,
        defects=(DEFECT,) * 4 if failed else (),
        defect_count=4 if failed else 0,
    )


def published(ledger: Path) -> int:
    """Return how many messages the broker has acknowledged, as the ledger has it."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        query = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
        newest = "SELECT coalesce(max(id), 0) FROM outbox"
        waiting, total = (connection.execute(q).fetchone()[0] for q in (query, newest))
    return int(total) - int(waiting)


def wait_for(ledger: Path, count: int) -> None:
    """Return when so many messages are published."""
    until = time.monotonic() + PATIENCE_S
    while published(ledger) < count:
        if time.monotonic() > until:
            sys.exit(f"after {PATIENCE_S:.0f} s {published(ledger)} of {count} are published")
        time.sleep(0.05)


def start_broker(folder: Path) -> "subprocess.Popen[bytes]":
    """Start mosquitto with limits that lose nothing."""
    found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto")
    config = folder / "mosquitto.conf"
    limits = "max_queued_messages 0\nmax_inflight_messages 0\n"
    config.write_text(f"listener {PORT} 127.0.0.1\nallow_anonymous true\n{limits}")
    return subprocess.Popen([found, "-c", str(config)], stderr=subprocess.DEVNULL)


def measure(folder: Path, verdicts: int, backlog: int, profile: Path | None) -> dict[str, object]:
    """Run both loads."""
    source = {"kind": "folder", "path": str(folder)}
    settings = Settings.model_validate(
        {
            "data_dir": folder / "data",
            "runtime_dir": folder / "run",
            "broker": {"port": PORT},
            "log_level": "error",
            "cameras": {"left": {"source": source, "deadline_ms": 60_000}},
        }
    )
    settings.runtime_dir.mkdir()
    files = RuntimeFiles(settings.runtime_dir)
    files.settings.write_text(settings.model_dump_json())
    arguments = [str(files.settings), str(os.getpid())]
    prepare = [sys.executable, "-m", "ssn_agent.ledger.prepare", *arguments]
    subprocess.run(prepare, check=True)
    python = [sys.executable]
    if profile is not None:
        python += ["-m", "cProfile", "-o", str(profile)]
    broker = start_broker(folder)
    ledger = subprocess.Popen([*python, "-m", "ssn_agent.ledger.process", *arguments])
    feeder = Feeder(files, ledger)
    try:
        feeder.feed(200, MAX_FRESH)
        wait_for(settings.ledger_path, 200)
        feeder.commit_ms.clear()
        start = time.monotonic()
        feeder.feed(verdicts, MAX_FRESH)
        committed_s = time.monotonic() - start
        wait_for(settings.ledger_path, 200 + verdicts)
        sustained_s = time.monotonic() - start
        times = feeder.commit_ms.copy()
        broker.kill()
        broker.wait()
        feeder.feed(backlog, MAX_FRESH)
        broker = start_broker(folder)
        start = time.monotonic()
        wait_for(settings.ledger_path, 200 + verdicts + backlog)
        drained_s = time.monotonic() - start
    finally:
        ledger.terminate()
        ledger.wait()
        broker.kill()
        broker.wait()
        feeder.close()
    with closing(sqlite3.connect(settings.ledger_path)) as connection:
        query = "SELECT avg(length(payload)) FROM outbox"
        message_bytes = connection.execute(query).fetchone()[0]
    return {
        "verdicts": verdicts,
        "committed_per_s": round(verdicts / committed_s),
        "published_per_s": round(verdicts / sustained_s),
        "commit_median_ms": round(median(times), 2),
        "commit_p99_ms": round(quantiles(times, n=100)[98], 2),
        "backlog": backlog,
        "backlog_published_per_s": round(backlog / drained_s),
        "message_bytes": round(message_bytes),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The ledger process under load.")
    parser.add_argument("--verdicts", type=int, default=40_000)
    parser.add_argument("--backlog", type=int, default=20_000)
    parser.add_argument("--scratch", type=Path, help="where the ledger is; default: as tempfile")
    parser.add_argument("--profile", type=Path, help="write cProfile's statistics of the process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        sizes = options.verdicts, options.backlog
        print(json.dumps(measure(Path(folder), *sizes, options.profile)))


if __name__ == "__main__":
    main()
