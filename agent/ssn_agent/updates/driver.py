"""The followed names, driven by `rules`: what the updates process does in its turns."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from ssn_agent.errors import JournalError, UpdateError
from ssn_agent.frames.heartbeat import DISK_S, Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.swapping import read_swapped
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_agent.supervisor.note import read_note
from ssn_agent.updates import evidence, rules
from ssn_agent.updates.challenged import failed_challenge
from ssn_agent.updates.incumbents import Digests, settings_bundles
from ssn_agent.updates.note import Alarms
from ssn_agent.updates.pulling import Pulling
from ssn_agent.updates.request import forget_request, read_request
from ssn_agent.updates.rules import Change
from ssn_agent.updates.settings import UpdateSettings
from ssn_agent.updates.shadow_process import ShadowProcess
from ssn_agent.updates.state import (
    Followed,
    ModelsState,
    Phase,
    Stamp,
    Stored,
    Tally,
    read_state,
    stamp_of,
    write_state,
)
from ssn_agent.updates.told import Line
from ssn_agent.updates.watching import Cameras

RETRY_S = 5.0
"""After a step that could not be taken: the file, the disk, a journal."""
SWAP_S = 300.0
"""For inference to load a bundle beside serving, with engines that were tried before."""


class Shadow(Protocol):
    """A candidate's shadow, under way."""

    def lines(self) -> list[Line]:
        """Return what it has told since."""
        ...

    def end(self) -> tuple[str, bool] | None:
        """Say how it came to its end, and whether another try may go otherwise; None: it runs."""
        ...

    def close(self) -> None:
        """Have it gone."""
        ...


StartShadow = Callable[[Path, str, Stored, Stored | None, int], Shadow]


class Updates:
    """All followed names."""

    def __init__(
        self,
        settings: Settings,
        files: RuntimeFiles,
        heart: Heartbeat,
        start_shadow: StartShadow = ShadowProcess,
    ) -> None:
        """Begin where `models.json` says that the process before was."""
        self._settings = settings
        self._files = files
        self._heart = heart
        self._start_shadow = start_shadow
        self._state: ModelsState | None = None
        self._stamp: Stamp | None = None
        self._pulling = Pulling(settings, files.announced)
        self._named: dict[str, Stored] = {}
        self._shadow: Shadow | None = None
        self._shadowed: str | None = None
        """The name whose candidate it tries."""
        self._cameras: dict[str, Cameras] = {}
        """Of the names on probation."""
        self._since: dict[str, float] = {}
        """When this process began a name's phase, by the monotonic clock."""
        self._digests = Digests()
        self._alarms = Alarms(files.updates)
        self._retry_at = 0.0

    def take_over(self, settings: Settings) -> None:
        """Go by these settings from now on; see `supervisor.reload`."""
        self._settings = settings

    def turn(self) -> None:
        """Take the next steps."""
        self._heart.beat(DISK_S)
        if time.monotonic() >= self._retry_at:
            try:
                self._turn()
                self._alarms.set("models", None)
            except (UpdateError, JournalError) as error:
                self._alarms.set("models", str(error))
                self._retry_at = time.monotonic() + RETRY_S
        self._heart.beat()
        self._alarms.tell()

    def close(self) -> None:
        """End in order: a shadow that is ended for that has killed nobody."""
        name = self._shadowed
        if name is None:
            return
        self._end_shadow()
        try:
            self._write(name, rules.interrupted(self._followed[name]))
        except UpdateError as error:
            logger().error("an ended shadow counts as one that died", problem=str(error))

    def _turn(self) -> None:
        self._read()
        self._heed_request()
        named = self._pulling.turn()
        self._alarms.set("channel", self._pulling.problem)
        if named is not None:
            self._named |= named
        for name, followed in self._followed.items():
            self._go_on(name, followed)
        if all(one.phase is Phase.IDLE for one in self._followed.values()):
            self._take_next()

    def _read(self) -> None:
        """Take up what is decided, at the start and where another hand has changed it.

        Inference and the ledger process go by the file, so this one does as well.
        """
        stamp = stamp_of(self._settings.models_file)
        if self._state is not None:
            if stamp == self._stamp:
                return
            logger().warning("another hand has changed it", file=str(self._settings.models_file))
            for name in self._followed:
                self._leave(name)
            self._since.clear()
            self._state = None
        self._state, self._stamp = read_state(self._settings.models_file), stamp

    @property
    def _followed(self) -> dict[str, Followed]:
        """Return where each followed name stands."""
        known = {} if self._state is None else self._state.followed
        new = Followed(since=_now())
        return {name: known.get(name, new) for name in self._settings.followed}

    def _write(self, name: str, change: Change) -> None:
        """Take a step: it is on the disk when this returns. Raises UpdateError."""
        before = self._followed[name]
        state = rules.applied(self._state or ModelsState(), name, change, _now())
        write_state(self._settings.models_file, state)
        self._state, self._stamp = state, stamp_of(self._settings.models_file)
        if change.followed.phase is not before.phase:
            self._since[name] = time.monotonic()
        for told in change.told:
            logger().info(
                "bundle",
                step=told.step,
                follows=name,
                version=told.bundle.version,
                digest=told.bundle.digest,
                detail=told.detail,
                figures=told.figures,
            )
            if told.step in ("pulled", "rolled_back"):
                self._alarms.set(f"frames of {name}", None)

    def _heed_request(self) -> None:
        path = self._files.update_request
        try:
            request = read_request(path)
            if request is None:
                return
            logger().info("asked", **request.model_dump(mode="json"))
            is_done = any(event.id == request.id for event in (self._state or ModelsState()).events)
            for name, followed in self._followed.items():
                if name == request.follows and not is_done:
                    has_before = followed.before is not None or bool(
                        settings_bundles(self._settings, name)
                    )
                    change = rules.go_back_by_hand(
                        followed, request.by, request.id, has_before=has_before
                    )
                    self._leave(name)
                    self._write(name, change)
                elif request.digest in followed.refused:
                    self._write(name, rules.retry(followed, request.digest))
        except UpdateError as error:
            logger().error("not done as asked", problem=str(error))
        forget_request(path)

    def _leave(self, name: str) -> None:
        """Have nothing under way for a name."""
        if self._shadowed == name:
            self._end_shadow()
        cameras = self._cameras.pop(name, None)
        if cameras is not None:
            cameras.close()

    def _go_on(self, name: str, followed: Followed) -> None:
        if followed.phase is Phase.SHADOW:
            self._go_on_in_shadow(name, followed)
        elif followed.phase is Phase.SWAPPING:
            self._look_for_swap(name, followed)
        elif followed.phase is Phase.PROBATION:
            self._prove(name, followed)
        else:
            note = read_swapped(self._files.swapped(name))
            is_wrong = note is not None and note.problem and followed.in_force is not None
            self._alarms.set(
                f"swap of {name}", f"{name}: {note.problem}" if note and is_wrong else None
            )

    def _take_next(self) -> None:
        for name, followed in self._followed.items():
            named = self._named.get(name)
            if named is None:
                continue
            judging = self._digests.of(settings_bundles(self._settings, name))
            if rules.is_candidate(followed, named, judging):
                self._write(name, rules.take(followed, named))
                return

    def _go_on_in_shadow(self, name: str, followed: Followed) -> None:
        if self._shadowed not in (None, name):
            return  # a name that was not followed for a while: it waits for its turn
        candidate = followed.candidate
        named = self._named.get(name)
        if candidate is not None and named is not None and named.digest != candidate.digest:
            self._leave(name)
            self._write(name, rules.drop(followed, named))
            return
        if self._shadow is None:
            self._write(name, rules.attempt(followed))
            if candidate is not None and self._followed[name].phase is Phase.SHADOW:
                self._begin_shadow(name, candidate, followed.in_force)
            return
        end = self._shadow.end()  # before its last lines are read
        for line in self._shadow.lines():
            if self._followed[name].phase is Phase.SHADOW:
                self._heed_shadow(name, self._followed[name], line)
        followed = self._followed[name]
        if followed.phase is Phase.SHADOW and end is not None:
            why, may_go_otherwise = end
            logger().error("a shadow came to its end", follows=name, problem=why)
            self._end_shadow()
            if not may_go_otherwise:
                self._write(name, rules.refuse(followed, why))

    def _begin_shadow(self, name: str, candidate: Stored, in_force: Stored | None) -> None:
        memory_mib = self._settings.memory.inference_mib
        try:
            self._shadow = self._start_shadow(
                self._files.settings, name, candidate, in_force, memory_mib
            )
        except UpdateError:  # what was never there has not died
            self._write(name, rules.interrupted(self._followed[name]))
            raise
        self._shadowed = name

    def _heed_shadow(self, name: str, followed: Followed, line: Line) -> None:
        if line.step == "tried":
            self._write(name, rules.tried(followed, line.detail, line.figures))
        elif line.step == "begins":
            self._write(name, rules.shadow_begins(followed))
        elif line.step == "refused":
            self._write(name, rules.refuse(followed, line.detail or "it cannot be used"))
            self._end_shadow()
        elif line.step == "done":
            self._conclude(name, followed, line.report)
            self._end_shadow()

    def _conclude(self, name: str, followed: Followed, report: evidence.Report | None) -> None:
        figures = {} if report is None else evidence.figures_of(report)
        why = None if report is None else evidence.why_refused(report)
        if why is not None:
            self._write(name, rules.refuse(followed, why, figures))
            return
        # Before the step: what inference says from here on is of this swap.
        self._files.swapped(name).unlink(missing_ok=True)
        words = None if report is None else evidence.in_words(report)
        seen = Tally() if report is None else evidence.foreseen(report.live)
        self._write(name, rules.swap_to(followed, words, figures, self._faults(), seen))
        bound = self._settings.updates.alarm_disagreement
        if report is not None and report.live.disagreement >= bound > 0:
            about = f"{name}: {words} (updates.alarm_disagreement)"
            self._alarms.set(f"frames of {name}", about)

    def _look_for_swap(self, name: str, followed: Followed) -> None:
        note = read_swapped(self._files.swapped(name))
        wanted = followed.in_force
        faults = self._faults_since(followed)
        why = None
        if note is not None and wanted is not None and note.digest == wanted.digest:
            self._begin_probation(name, followed, wanted)
            return
        if note is not None and note.problem is not None:
            why = evidence.why_not_loaded(note.problem)
        elif faults:
            why = evidence.why_replaced(faults)
        elif self._in_phase_s(name) > SWAP_S:
            why = f"inference has not loaded it within {SWAP_S:.0f} s"
        if why is not None:
            self._write(name, rules.go_back(followed, why))

    def _begin_probation(self, name: str, followed: Followed, in_force: Stored) -> None:
        cameras = Cameras(self._settings, self._files, name)
        try:
            marks = cameras.marks()
            baseline = cameras.before(marks, in_force.digest)
            self._write(name, rules.swapped(followed, marks, baseline))
        finally:
            cameras.close()

    def _prove(self, name: str, followed: Followed) -> None:
        cameras = self._cameras.get(name)
        if cameras is None:
            cameras = self._cameras[name] = Cameras(self._settings, self._files, name)
            cameras.start(followed.marks)
        before, after = followed.baseline, cameras.look()
        faults = self._faults_since(followed)
        why = evidence.why_back(before, followed.foreseen, after, faults, self._bounds)
        if wanted := followed.in_force:
            why = why or failed_challenge(self._settings, name, wanted.digest)
        figures = evidence.figures_of_probation(before, after)
        note = read_swapped(self._files.swapped(name))
        if note is not None and note.problem and wanted and note.digest != wanted.digest:
            # Since a start of inference another one judges: what is counted is not this one's.
            why = evidence.why_not_loaded(note.problem)
        if why is not None:
            change = rules.go_back(followed, why, figures)
        elif evidence.is_proven(after, self._in_phase_s(name) / 60, self._bounds):
            change = rules.keep(followed, figures)
        else:
            return
        self._write(name, change)
        self._cameras.pop(name).close()

    @property
    def _bounds(self) -> UpdateSettings:
        return self._settings.updates

    def _in_phase_s(self, name: str) -> float:
        """Return for how long this process has seen a name in its phase."""
        return time.monotonic() - self._since.setdefault(name, time.monotonic())

    def _faults(self) -> int:
        """Return how often inference was replaced since the agent started."""
        processes = read_note(self._files.supervisor).processes
        return sum(p.died + p.hung + p.over_memory for p in processes if p.name == "inference")

    def _faults_since(self, followed: Followed) -> int:
        """Return how often since the swap began; a new agent counts from 0."""
        faults = self._faults()
        return faults - followed.faults if faults >= followed.faults else faults

    def _end_shadow(self) -> None:
        if self._shadow is not None:
            self._shadow.close()
            self._shadow = self._shadowed = None


def _now() -> datetime:
    return datetime.now(timezone.utc)
