"""Real processes, real signals: what hangs, dies or grows is replaced, and nobody else is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ssn_agent.frames.heartbeat import Heartbeat, beat_due_at
from ssn_agent.supervisor.child import Child, end_all, own_memory_bytes, queued_for_a_processor_s
from ssn_agent.supervisor.children import Fault, State
from support.waiting import wait_until

BEATS = """
import sys, time
from pathlib import Path
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.processes import Stop
stop = Stop()
heart = Heartbeat(Path(sys.argv[1]))
def turn(within_s=0.5):
    heart.beat(within_s)
    return stop.wait(0.02)
"""
LIVES = BEATS + "while not turn(): pass"
STOPS_BEATING = BEATS + "turn()\ntime.sleep(60)"
GROWS = BEATS + "hoard = []\nwhile not turn(10): hoard.append(bytes([1]) * 2**23)"
LOADS = BEATS + "turn(2.0)\ntime.sleep(1.0)\nwhile not turn(): pass"
FAILS = "raise SystemExit(3)"
ENDS = ""


class Family:
    """Children under the driver, tended as the supervisor does it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.children: list[Child] = []

    def add(self, name: str, code: str, memory_mib: int = 1024, *, ends: bool = False) -> Child:
        module = self._folder / f"{name}.py"
        module.write_text(code)
        heart = self._folder / f"{name}.heartbeat"
        arguments = [name, str(heart)]
        child = Child(name, arguments, heart, memory_mib, ends_by_itself=ends)
        self.children.append(child)
        return child

    def tend_until(self, condition: Callable[[], bool], problem: str) -> None:
        def tended() -> bool:
            for child in self.children:
                child.tend(time.monotonic())
            return condition()

        wait_until(tended, 20, problem)

    def run(self) -> None:
        self.tend_until(
            lambda: all(child.rule.state is State.RUNNING for child in self.children), "no beats"
        )


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    path = [str(tmp_path), *(entry for entry in sys.path if entry)]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    found = Family(tmp_path)
    yield found
    end_all(found.children, 5.0)


def pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


@pytest.mark.parametrize(
    ("number", "fault"), [(signal.SIGKILL, Fault.DIED), (signal.SIGSTOP, Fault.HUNG)]
)
def test_a_child_that_dies_or_hangs_is_replaced_and_the_others_keep_their_process(
    family: Family, number: signal.Signals, fault: Fault
) -> None:
    victim = family.add("victim", LIVES)
    other = family.add("other", LIVES)
    family.run()
    before, kept = pid(victim), pid(other)
    victim.send_signal(number)
    family.tend_until(lambda: victim.rule.faults[fault] == 1, "not noticed")
    family.run()
    assert pid(victim) != before
    assert not psutil.pid_exists(before)
    assert pid(other) == kept
    assert victim.status().model_dump() == {
        "name": "victim",
        "state": "running",
        "died": int(fault is Fault.DIED),
        "hung": int(fault is Fault.HUNG),
        "over_memory": 0,
    }
    [alarm] = victim.alarms(time.monotonic())
    assert alarm.startswith("victim: ")
    assert other.alarms(time.monotonic()) == []


def test_where_a_child_hangs_is_in_the_log(
    family: Family, capfd: pytest.CaptureFixture[str]
) -> None:
    stuck = family.add("stuck", STOPS_BEATING)
    family.tend_until(lambda: stuck.rule.faults[Fault.HUNG] == 1, "not noticed")
    assert 'stuck.py", line' in capfd.readouterr().err


def test_a_child_that_said_it_needs_long_is_left_alone_for_so_long(family: Family) -> None:
    loading = family.add("loading", LOADS)
    family.run()
    first = pid(loading)
    started = time.monotonic()
    family.tend_until(lambda: time.monotonic() > started + 1.5, "the time does not pass")
    assert pid(loading) == first
    assert loading.rule.state is State.RUNNING


def test_a_child_over_its_memory_is_ended_and_its_memory_is_free_again(family: Family) -> None:
    growing = family.add("growing", GROWS, memory_mib=64)
    family.run()
    before = pid(growing)
    assert own_memory_bytes(before) > 0
    family.tend_until(lambda: growing.rule.faults[Fault.OVER_MEMORY] == 1, "not noticed")
    assert own_memory_bytes(before) == 0


def test_the_time_in_the_queue_for_a_processor_is_known_and_none_for_one_that_is_gone() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    cores = sorted(os.sched_getaffinity(0))
    for process in busy:
        os.sched_setaffinity(process.pid, cores[:1])
    try:
        wait_until(
            lambda: all(queued_for_a_processor_s(process.pid) > 0.05 for process in busy),
            10,
            "four on one core do not wait",
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert queued_for_a_processor_s(busy[0].pid) == 0.0


def test_a_child_that_fails_at_its_start_is_tried_again_and_one_that_ends_is_not(
    family: Family,
) -> None:
    failing = family.add("failing", FAILS)
    ending = family.add("ending", ENDS, ends=True)
    family.tend_until(lambda: failing.rule.faults[Fault.DIED] == 2, "not tried again")
    family.tend_until(lambda: ending.rule.state is State.ENDED, "its end is not seen")
    assert ending.process is None


def test_a_program_that_cannot_be_started_is_a_fault_like_any_other(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = family.add("victim", LIVES)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    child.tend(time.monotonic())
    assert child.rule.faults[Fault.DIED] == 1
    monkeypatch.undo()


def test_a_beat_is_read_as_written_and_half_a_beat_is_none(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    assert beat_due_at(path) is None
    heart = Heartbeat(path)
    assert beat_due_at(path) is None
    heart.beat(7.0)
    due_at = beat_due_at(path)
    assert due_at is not None
    assert 6.0 < due_at - time.monotonic() <= 7.0
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    assert beat_due_at(path) is None
