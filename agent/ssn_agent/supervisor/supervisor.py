"""The service's main process: prepares the ledger, starts the others, replaces what dies.

The end, in this order, so that nothing accepted is left without a verdict: captures stop taking
frames; the ledger process closes what is pending, with inference still at work, and drains to the
broker; then inference ends.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ssn_agent.errors import AgentError, UsageError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import logger
from ssn_agent.processes import Stop, start_process
from ssn_agent.settings import Settings
from ssn_agent.supervisor.children import RestartRule

TICK_S = 0.05
READY_S = 20.0
"""Cameras start when inference has opened its bundles, but not later than this: a part in front of
a running camera is counted even where nothing can judge it."""
CAPTURE_STOP_S = 10.0
LEDGER_STOP_S = 90.0
"""More than the longest deadline, the wait for the disk and the drain of the outbox together."""
INFERENCE_STOP_S = 5.0


@dataclass
class _Child:
    name: str
    arguments: list[str]
    ends_by_itself: bool
    """It may come to its end (a file source): exit code 0 is then no death."""
    rule: RestartRule = field(default_factory=RestartRule)
    process: "subprocess.Popen[bytes] | None" = None
    ended: bool = False


class Supervisor:
    """Runs the agent."""

    def __init__(self, settings: Settings) -> None:
        """Take the runtime directory. Raises UsageError where an agent runs there already."""
        self._settings = settings
        self._files = RuntimeFiles(settings.runtime_dir)
        self._lock = _take(self._files)
        resolved = str(self._files.settings)
        parent = str(os.getpid())
        module = "ssn_agent.{}.process".format
        self._ledger = _Child("ledger", [module("ledger"), resolved, parent], False)
        self._inference = _Child("inference", [module("inference"), resolved, parent], False)
        self._captures = [
            _Child(f"capture:{camera}", [module("capture"), resolved, camera, parent], True)
            for camera in settings.cameras
        ]

    def run(self, stop: Stop, *, once: bool) -> None:
        """Run until asked to stop; with `once`, until every camera has come to its end.

        Raises AgentError where the ledger cannot be prepared, or triggers stay without a verdict.
        """
        self._prepare()
        self._files.inference_ready.unlink(missing_ok=True)
        cameras_start_at = time.monotonic() + READY_S
        while not stop:
            _tend(self._ledger)
            _tend(self._inference)
            if self._files.inference_ready.exists() or time.monotonic() >= cameras_start_at:
                for child in self._captures:
                    _tend(child)
            if once and all(child.ended for child in self._captures):
                break
            stop.wait(TICK_S)
        self._end()

    def _prepare(self) -> None:
        text = self._settings.model_dump_json().encode()
        path = self._files.settings
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        command = [sys.executable, "-m", "ssn_agent.ledger.prepare", str(path)]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise AgentError(done.stderr.decode().strip().removeprefix("ssn-agent: "))
        sys.stderr.buffer.write(done.stderr)

    def _end(self) -> None:
        _end_all(self._captures, CAPTURE_STOP_S)
        closed = self._end_ledger()
        _end_all([self._inference], INFERENCE_STOP_S)
        if not closed:
            msg = "triggers are left without a verdict (see the log); the next start closes them"
            raise AgentError(msg)
        logger().info("agent ended")

    def _end_ledger(self) -> bool:
        """Have the ledger process close what is pending; say whether it did.

        One that is dead by now, or is killed over it, is started again. One that ends with an error
        has said why it cannot go on, and would say so again.
        """
        self._ledger.ends_by_itself = True
        asked = None
        ends_at = time.monotonic() + LEDGER_STOP_S
        while time.monotonic() < ends_at:
            _tend(self._inference)
            process = self._ledger.process
            if process is not asked and process is not None:
                process.send_signal(signal.SIGTERM)
                asked = process
            _tend(self._ledger)
            if self._ledger.ended:
                return True
            if asked is not None and (asked.returncode or 0) > 0:
                return False
            time.sleep(TICK_S)
        _end_all([self._ledger], 0.0)
        return False


def _tend(child: _Child) -> None:
    """Start a child that is due; take note of one that died."""
    now = time.monotonic()
    if child.process is None:
        if child.rule.start_at is not None and now >= child.rule.start_at:
            child.process = start_process(child.arguments)
            child.rule.started(now)
            logger().info("process started", name=child.name, pid=child.process.pid)
        return
    code = child.process.poll()
    if code is None:
        return
    child.process = None
    if code == 0 and child.ends_by_itself:
        child.ended = True
        logger().info("process came to its end", name=child.name)
        return
    wait_s = child.rule.died(now)
    logger().error("process died", name=child.name, exit_code=code, restart_s=wait_s)


def _end_all(children: Iterable[_Child], patience_s: float) -> None:
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


def _take(files: RuntimeFiles) -> int:
    """Make the runtime directory and lock it; the lock goes with the process."""
    try:
        files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"{files.root}: cannot be used as runtime_dir ({error.strerror}); set another"
        raise UsageError(msg) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        msg = f"{files.root}: an agent runs here already; stop it, or set another runtime_dir"
        raise UsageError(msg) from error
    return lock
