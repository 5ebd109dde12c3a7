"""The kernel's account of the ledger process: what it wrote, synced and sent, in which order."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.agent import station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, program
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "strace")
SEQUENCE = re.compile(r'\\"sequence\\":(\d+),')
WRITTEN = re.compile(r"pwrite64\(\d+<[^>]*ledger\.sqlite-wal>")
SYNC_BEGUN = re.compile(r"(\d+) +fdatasync\(\d+<[^>]*ledger\.sqlite-wal>")
SYNC_ENDED = re.compile(r"(\d+) +(?:<\.\.\. fdatasync resumed>|fdatasync\(.*\)).* = 0$")
SENT = re.compile(r"send(?:to|msg)\(.*/left/verdict")


def test_a_verdict_leaves_only_after_the_ledger_s_disk_has_said_that_it_is_there(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 60)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 10}
    trace = tmp_path / "trace"
    with station(
        tmp_path, mosquitto.port, bundle=bundle, source=source, heatmap="none", deadline_ms=20_000
    ) as agent:
        agent.start()
        pid = agent.child("ledger").pid
        command = [program("strace"), "-f", "-y", "-s", "9000", "-o", str(trace), "-p", str(pid)]
        command += ["-e", "trace=pwrite64,fdatasync,sendto,sendmsg"]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: len(sent(trace)) >= 20, 60, "the tracer sees no verdict leave")
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        assert agent.stop() == 0
    unproven = sent_before_their_sync(trace)
    # The first one seen may have been written before the tracer was there.
    assert unproven <= sent(trace)[:1], f"sent, and not yet synced: {unproven}"


def sent(trace: Path) -> list[int]:
    """Return the numbers of the verdicts that left, in order."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [int(n) for line in lines if SENT.search(line) for n in SEQUENCE.findall(line)]


def sent_before_their_sync(trace: Path) -> list[int]:
    """Return the verdicts that left before a sync had ended that began after they were written."""
    unproven, written, synced = [], set[int](), set[int]()
    under_way: dict[str, set[int]] = {}
    for line in trace.read_text().splitlines():
        numbers = {int(n) for n in SEQUENCE.findall(line)}
        if WRITTEN.search(line):
            written |= numbers
        if begun := SYNC_BEGUN.match(line):
            under_way[begun[1]] = set(written)
        if ended := SYNC_ENDED.match(line):
            synced |= under_way.pop(ended[1], set())
        if SENT.search(line):
            unproven += sorted(numbers - synced)
    return unproven
