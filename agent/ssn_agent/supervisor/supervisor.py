"""The service's main process: prepares the ledger, starts the others, replaces what dies or hangs.

The end, in this order, so that nothing accepted is left without a verdict: captures stop taking
frames, and the HTTP API requests; the ledger process closes what is pending, with inference still
at work, and drains to the broker; then inference ends.

Systemd is told that all is well at each turn, but not while a killed child cannot be buried. SIGHUP
has the settings read again: what may change at run time is handed to the processes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from ssn_agent.errors import AgentError
from ssn_agent.frames.lock import take_runtime
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import configure, logger
from ssn_agent.metrics.endpoint import Endpoint
from ssn_agent.metrics.report import station_metrics
from ssn_agent.processes import LEDGER_DAMAGED, Stop, hold_back_reloads, reload_asked_by
from ssn_agent.settings import Settings
from ssn_agent.supervisor.child import Child, end_all
from ssn_agent.supervisor.children import State
from ssn_agent.supervisor.in_force import SettingsInForce
from ssn_agent.supervisor.note import SupervisorNote, write_note
from ssn_agent.supervisor.systemd import Systemd
from ssn_agent.updates.note import read_alarms

TICK_S = 0.05
PAUSE_S = 1.0
"""Where a turn comes so much later, this process was held up itself, and perhaps all were."""
UNBURIED_S = 30.0
"""A killed child that is not gone by then waits for a driver or a disk that may never answer."""
READY_S = 20.0
"""Cameras start when inference has opened its bundles, but not later than this: a part in front of
a running camera is counted even where nothing can judge it."""
CAPTURE_STOP_S = 10.0
LEDGER_STOP_S = 90.0
"""More than the longest deadline, the wait for the disk and the drain of the outbox together."""
INFERENCE_STOP_S = 5.0


class Supervisor:
    """Runs the agent."""

    def __init__(self, settings: Settings, again: Callable[[], Settings]) -> None:
        """Take the runtime directory; `again` resolves the settings anew.

        Raises UsageError where an agent runs there already.
        """
        self._files = RuntimeFiles(settings.runtime_dir)
        self._lock = take_runtime(self._files)
        self._in_force = SettingsInForce(settings, again, self._files.settings)
        self._systemd = Systemd()
        resolved = str(self._files.settings)
        parent = str(os.getpid())
        module = "ssn_agent.{}.process".format
        heart = self._files.heartbeat
        memory = settings.memory
        self._ledger = Child(
            "ledger",
            [module("ledger"), resolved, parent],
            heart("ledger"),
            memory.ledger_mib,
        )
        self._inference = Child(
            "inference",
            [module("inference"), resolved, parent],
            heart("inference"),
            memory.inference_mib,
        )
        self._captures = [
            Child(
                f"capture:{camera}",
                [module("capture"), resolved, camera, parent],
                heart(f"capture:{camera}"),
                memory.capture_mib,
                ends_by_itself=True,
            )
            for camera in settings.cameras
        ]
        self._http = (
            [Child("http", [module("labels"), resolved, parent], heart("http"), memory.http_mib)]
            if settings.http.port is not None
            else []
        )
        self._updates = (
            [
                Child(
                    "updates",
                    [module("updates"), resolved, parent],
                    heart("updates"),
                    memory.updates_mib,
                )
            ]
            if settings.followed
            else []
        )
        self._note: SupervisorNote | None = None
        self._endpoint: Endpoint | None = None
        self._turned_at = time.monotonic()

    def run(self, stop: Stop, *, once: bool) -> None:
        """Run until asked to stop; with `once`, until every camera has come to its end.

        Raises AgentError where the ledger cannot be prepared or is damaged, or where triggers stay
        without a verdict.
        """
        hold_back_reloads()
        self._prepare()
        self._serve_metrics()
        self._files.inference_ready.unlink(missing_ok=True)
        self._turned_at = time.monotonic()
        cameras_start_at = self._turned_at + READY_S
        while not stop:
            self._begin_turn()
            self._heed_reload()
            self._tend([self._ledger, self._inference, *self._http, *self._updates])
            if self._ledger.exit_code == LEDGER_DAMAGED:
                self._begin_anew()
            if self._files.inference_ready.exists() or time.monotonic() >= cameras_start_at:
                self._tend(self._captures)
                self._systemd.ready()
            if once and all(child.rule.state is State.ENDED for child in self._captures):
                break
            stop.wait(TICK_S)
        self._end()

    @property
    def _children(self) -> list[Child]:
        return [self._ledger, self._inference, *self._captures, *self._http, *self._updates]

    def _tend(self, children: Iterable[Child]) -> None:
        """Take the next step with some of the children, and say how all of them are."""
        now = time.monotonic()
        for child in children:
            child.tend(now)
        self._say(now)
        unburied = (
            child.rule.state is State.KILLED and now - child.rule.since > UNBURIED_S
            for child in self._children
            if child not in (*self._http, *self._updates)  # the line can do without it
        )
        if not any(unburied):
            self._systemd.well(now)

    def _say(self, now: float) -> None:
        """Say how the children and the settings are, where that has changed."""
        alarms = [text for child in self._children for text in child.alarms(now)]
        alarms += self._in_force.alarms()
        if self._updates:
            alarms += [f"updates: {text}" for text in read_alarms(self._files.updates)]
        if self._endpoint is not None and self._endpoint.problem is not None:
            alarms.append(f"metrics: {self._endpoint.problem}")
        running = {c.name: c.process.pid for c in self._children if c.process is not None}
        note = SupervisorNote(
            processes=[child.status() for child in self._children],
            pids={"supervisor": os.getpid(), **running},
            alarms=alarms,
            settings=self._in_force.status(),
            changed_by=self._in_force.changed_by,
        )
        if note != self._note and write_note(self._files.supervisor, note):
            self._note = note
            self._systemd.status(", ".join(f"{p.name} {p.state}" for p in note.processes))

    def _heed_reload(self) -> None:
        uid = reload_asked_by()
        if uid is None:
            return
        self._systemd.reloading()
        is_changed = self._in_force.read_again(uid)
        self._say(time.monotonic())  # who did it, before the ledger process asks
        if is_changed:
            configure(self._in_force.settings.log_level, "supervisor")
        for child in self._children:  # in any case: the broker's certificates may be other ones
            child.send_signal(signal.SIGHUP)
        self._systemd.reloaded()

    def _begin_turn(self) -> None:
        """Take note of where this process was held up: then perhaps the others were too."""
        now = time.monotonic()
        pause_s = now - self._turned_at
        self._turned_at = now
        if pause_s > PAUSE_S:
            logger().warning("the supervisor was held up", pause_s=round(pause_s, 1))
            for child in self._children:
                child.rule.excuse(pause_s)

    def _prepare(self) -> None:
        self._systemd.status("preparing the ledger")
        path = self._files.settings
        try:
            self._in_force.write()
        except OSError as error:
            msg = f"{path}: cannot be written ({error.strerror}); check runtime_dir"
            raise AgentError(msg) from error
        command = [sys.executable, "-m", "ssn_agent.ledger.prepare", str(path), str(os.getpid())]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if done.returncode != 0:
            raise AgentError(done.stdout.decode() or "the ledger is not prepared; see the log")

    def _serve_metrics(self) -> None:
        self._files.figures.unlink(missing_ok=True)  # of the agent before
        settings = self._in_force.settings
        if settings.metrics.port is not None:
            read = partial(station_metrics, self._files, settings)
            deadlines_s = {name: c.deadline_ms / 1000 for name, c in settings.cameras.items()}
            self._endpoint = Endpoint(settings.metrics, settings.metrics.port, read, deadlines_s)

    def _begin_anew(self) -> None:
        """Numbers were proven by a ledger that is set aside now: the next start begins a new one.

        Raises AgentError.
        """
        self._systemd.stopping()
        end_all([*self._http, *self._updates, *self._captures], CAPTURE_STOP_S)
        end_all([self._inference], INFERENCE_STOP_S)
        msg = "the ledger was damaged and is set aside (see the log); start the agent again"
        raise AgentError(msg)

    def _end(self) -> None:
        self._systemd.stopping()
        end_all([*self._http, *self._updates, *self._captures], CAPTURE_STOP_S)
        closed = self._end_ledger()
        end_all([self._inference], INFERENCE_STOP_S)
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
            self._begin_turn()
            self._tend([self._inference])
            process = self._ledger.process
            if process is not asked and process is not None:
                process.send_signal(signal.SIGTERM)
                asked = process
            self._tend([self._ledger])
            if self._ledger.rule.state is State.ENDED:
                return True
            if asked is not None and (asked.returncode or 0) > 0:
                return False
            time.sleep(TICK_S)
        end_all([self._ledger], 0.0)
        return False
