"""One child process, driven by the rules in `children`: started, listened to, replaced."""

import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from ssn_agent.frames.heartbeat import beat_due_at
from ssn_agent.log import logger
from ssn_agent.processes import start_process
from ssn_agent.supervisor.children import ChildRule, Fault, State
from ssn_contract.messages import ProcessStatus

ABORT_S = 0.5
"""A child that hangs is aborted first: faulthandler then says where. After this it is killed."""
MEMORY_S = 1.0
"""How often the memory is looked at."""

_WORDS = {
    Fault.DIED: "died",
    Fault.HUNG: "made no progress",
    Fault.OVER_MEMORY: "took more memory than it may (memory.*_mib)",
}


class Child:
    """A process of the agent's, and whatever takes its place."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        heartbeat: Path,
        memory_mib: int,
        *,
        ends_by_itself: bool = False,
    ) -> None:
        """Describe it; `tend` starts it.

        `ends_by_itself`: it may come to its end (a file source), so exit code 0 is no death.
        """
        self.name = name
        self.ends_by_itself = ends_by_itself
        self.rule = ChildRule(memory_mib * 2**20)
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None
        """Of the last one that ended."""
        self._arguments = arguments
        self._heartbeat = heartbeat
        self._used_bytes = 0
        self._memory_at = 0.0

    def tend(self, now: float) -> None:
        """Start it where it is due; replace it where it died, hangs or takes too much memory."""
        if self.process is None:
            if self.rule.is_due(now):
                self._start(now)
            return
        code = self.process.poll()
        if code is not None:
            self._note_end(code, now)
        elif self.rule.state is not State.KILLED:
            self._watch(self.process, now)
        elif now >= self.rule.since + ABORT_S:
            self.process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal where it runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def status(self) -> ProcessStatus:
        """Return what `status` says of it."""
        faults = self.rule.faults
        return ProcessStatus(
            name=self.name,
            state=self.rule.state.value,
            died=faults[Fault.DIED],
            hung=faults[Fault.HUNG],
            over_memory=faults[Fault.OVER_MEMORY],
        )

    def alarms(self, now: float) -> list[str]:
        """Return what people should know of it, until it has run steadily for a while."""
        fault = self.rule.last_fault
        if fault is None or not self.rule.is_unsteady(now):
            return []
        times = self.rule.faults.total()
        return [f"{self.name}: {_WORDS[fault]}; replaced, {times} times since the agent started"]

    def _start(self, now: float) -> None:
        self.rule.started(now)
        try:
            self._heartbeat.unlink(missing_ok=True)  # the beats of the one before
            self.process = start_process(self._arguments)
        except OSError as error:  # no memory, no process number
            wait_s = self.rule.gone(now)
            problem = error.strerror
            logger().error("process not started", name=self.name, problem=problem, restart_s=wait_s)
            return
        logger().info("process started", name=self.name, pid=self.process.pid)

    def _note_end(self, code: int, now: float) -> None:
        self.process, self.exit_code = None, code
        if code == 0 and self.ends_by_itself:
            self.rule.ended(now)
            logger().info("process came to its end", name=self.name)
            return
        wait_s = self.rule.gone(now)
        reason = None if self.rule.last_fault is None else self.rule.last_fault.value
        logger().error(
            "process died", name=self.name, reason=reason, exit_code=code, restart_s=wait_s
        )

    def _watch(self, process: "subprocess.Popen[bytes]", now: float) -> None:
        queued_s = queued_for_a_processor_s(process.pid)
        due_at = beat_due_at(self._heartbeat)
        if due_at is not None:
            self.rule.promised(now, due_at, queued_s)
        if now >= self._memory_at:
            self._memory_at = now + MEMORY_S
            self._used_bytes = own_memory_bytes(process.pid)
        fault = self.rule.fault(now, queued_s, self._used_bytes)
        if fault is None:
            return
        used_mib = self._used_bytes // 2**20
        limit_mib = self.rule.memory_bytes // 2**20
        logger().error(
            "process is killed",
            name=self.name,
            pid=process.pid,
            reason=fault.value,
            memory_mib=used_mib,
            memory_limit_mib=limit_mib,
        )
        process.send_signal(signal.SIGABRT if fault is Fault.HUNG else signal.SIGKILL)
        self.rule.killed(now, fault)


def queued_for_a_processor_s(pid: int) -> float:
    """Return how long a process's main thread was ready to run and did not; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def own_memory_bytes(pid: int) -> int:
    """Return the resident memory that goes when the process does; 0 where it is gone.

    Anonymous pages alone: the mapped files that processes share stay.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def end_all(children: Iterable[Child], patience_s: float) -> None:
    """Ask to stop, wait, and kill what does not."""
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    ends_at = time.monotonic() + patience_s
    for process in running:
        try:
            process.wait(max(0.0, ends_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger().error("process does not end; killed", pid=process.pid, patience_s=patience_s)
            process.kill()
            process.wait()
