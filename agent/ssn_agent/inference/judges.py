"""What judges, where: the bundles of all cameras and products, and how one takes over from another.

A seat stands for one judge of the settings; what names the same bundle and follows the same name
shares it. Which bundles may sit there says `swapping.wanted_bundles`, the best of them first.

- At the start the first of them that opens and reproduces its vectors takes the seat at once, on
  the reference engine; its search for a faster one goes on beside serving.
- While serving, where a followed name wants another bundle than the one that judges, that one is
  loaded beside serving (`loading`) and takes over between two frames, in all seats of that name.
  What judged before is dropped. Where it cannot be loaded, what judges goes on.
- An empty seat without a followed name is tried again and again: the file may come later.

`models.json` is looked at on every turn. Where it cannot be read, what judges goes on, at a start
the settings' bundles, and it is read again after a while: its rights, or what there is of files and
memory, may be the reason.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from ssn_agent.errors import AgentError, UpdateError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.loading import LIMIT_S, Loading, open_bundle
from ssn_agent.inference.model import CLOSE_S, LOAD_S, Model
from ssn_agent.inference.swapping import Swapped, Wanted, wanted_bundles, write_swapped
from ssn_agent.log import logger
from ssn_agent.settings import Judge, Settings
from ssn_agent.updates.state import ModelsState, read_state

REOPEN_BUNDLE_S = 5.0
REREAD_S = 5.0
"""For what cannot be read, or noted, to be tried once more."""
NO_BUNDLE = "no bundle is set for this camera (cameras.NAME.bundle)"


@dataclass(eq=False)
class Seat:
    """Where a bundle judges."""

    bundle: Path | None
    follow: str | None
    model: Model | None = None
    problem: str | None = None
    """Why nothing judges, or not what is wanted, a line each; empty where all is well. None: it is
    not known yet."""
    wanted: list[Wanted] = field(default_factory=list)
    serving: Wanted | None = None
    refused: dict[Wanted, str] = field(default_factory=dict)
    """What could not be loaded, and why, since `wanted` last changed."""
    tried: set[Wanted] = field(default_factory=set)
    """What of that is not to be tried now."""
    retry_at: float = 0.0

    def want(self, wanted: list[Wanted]) -> None:
        """Take up what is wanted; where that is nothing, nothing judges from the next frame on."""
        if wanted != self.wanted:
            self.wanted = wanted
            self.refused.clear()
            self.tried.clear()
        if not wanted:
            self.model = self.serving = None

    def next(self) -> Wanted | None:
        """Return what is to be loaded for this seat, if anything is."""
        candidates = self.wanted
        if self.model is not None:
            candidates = [one for one in self.wanted[:1] if not self._has(one, self.model)]
        return next((one for one in candidates if one not in self.tried), None)

    def take(self, wanted: Wanted, model: Model) -> None:
        """Have it judge from the next frame on."""
        self.model, self.serving = model, wanted
        self.refused.pop(wanted, None)
        logger().info("bundle in force", bundle=str(wanted.path), engine=model.scorer.engine.name)

    def refuse(self, wanted: Wanted, problem: str) -> None:
        """Note that it cannot."""
        is_new = self.refused.get(wanted) != problem
        self.refused[wanted] = problem
        self.tried.add(wanted)
        self.retry_at = time.monotonic() + REOPEN_BUNDLE_S
        if is_new:  # an empty seat is tried again and again
            logger().error("bundle not taken", bundle=str(wanted.path), problem=problem)

    def find_problem(self, about_state: str) -> str:
        """Return what `problem` is now."""
        lines = [about_state] if about_state and self.follow is not None else []
        for one in self.wanted:
            if one == self.serving:
                break
            lines += [self.refused[one]] if one in self.refused else []
        return "\n".join(lines or ([] if self.wanted else [NO_BUNDLE]))

    @property
    def is_as_wanted(self) -> bool:
        """Say whether the best of what is wanted judges."""
        if self.model is None:
            return not self.wanted
        return self._has(self.wanted[0], self.model)

    def _has(self, wanted: Wanted, model: Model) -> bool:
        return self.serving == wanted or wanted.digest == model.digest


class Judges:
    """All seats, and the models in them."""

    def __init__(self, settings: Settings, files: RuntimeFiles, heart: Heartbeat) -> None:
        """Read what is wanted; `load` loads it. `heart` is told before what takes long."""
        self._settings = settings
        self._files = files
        self._heart = heart
        self._seats: dict[tuple[Path | None, str | None], Seat] = {}
        self._models: list[Model] = []
        self._loading: Loading | None = None
        self._state = ModelsState()
        self._state_problem = ""
        self._stamp: tuple[int, int, int] | None = None
        self._reread_at = self._note_at = 0.0
        self._noted: dict[str, Swapped] = {}
        self._is_serving = False
        for camera in settings.cameras.values():
            for judge in camera.judges:
                seat = Seat(judge.bundle, judge.follow)
                self._seats.setdefault((judge.bundle, judge.follow), seat)
        self._choose()

    def seat(self, judge: Judge) -> Seat:
        """Return where a judge of the settings judges."""
        return self._seats[judge.bundle, judge.follow]

    def load(self) -> set[Seat]:
        """Load what is missing or wanted; return the seats where something has changed.

        The first time, and for what follows no name, serving waits; else it does not.
        """
        before = {seat: (seat.model, seat.problem) for seat in self._seats.values()}
        self._look()
        for seat in self._seats.values():
            if seat.model is None and time.monotonic() >= seat.retry_at:
                seat.tried.clear()
                if seat.follow is None or not self._is_serving:
                    self._open(seat)
        self._is_serving = True
        self._go_on_loading()
        for seat in self._seats.values():
            seat.problem = seat.find_problem(self._state_problem)
        self._drop_unused()
        changed = {seat for seat, was in before.items() if was != (seat.model, seat.problem)}
        self._note()
        return changed

    def search(self) -> set[Seat]:
        """Take the next step towards the fastest engines; return the seats where one took over."""
        changed: set[Seat] = set()
        for model in self._models:
            model.search()
            if model.is_changed:
                model.is_changed = False
                changed |= {seat for seat in self._seats.values() if seat.model is model}
        return changed

    @property
    def is_loading(self) -> bool:
        """Say whether an engine that is known to be better is on its way to what judges."""
        return any(model.is_loading for model in self._models)

    @property
    def engine_dirs(self) -> set[Path]:
        """Return the folders of what is kept for the engines of what judges."""
        return {model.engine_dir for model in self._models}

    def close(self) -> None:
        """End in order."""
        if self._loading is not None:
            self._loading.give_up()
            self._loading.wait(CLOSE_S)
        for model in self._models:
            model.close()

    def _look(self) -> None:
        """Take up what is wanted, where that has changed."""
        path = self._settings.models_file
        try:
            found = os.stat(path)  # noqa: PTH116 -- on every turn
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            stamp = None
        is_again = self._state_problem and time.monotonic() >= self._reread_at
        if stamp == self._stamp and not is_again:
            return
        self._stamp = stamp
        self._noted.clear()  # who has decided waits for an answer, also where it is the old one
        try:
            self._state, self._state_problem = read_state(path), ""
        except UpdateError as error:
            if str(error) != self._state_problem:
                logger().error("what is decided about bundles is not known", problem=str(error))
            self._state_problem = str(error)  # what was known holds
            self._reread_at = time.monotonic() + REREAD_S
        self._choose()

    def _choose(self) -> None:
        for seat in self._seats.values():
            seat.want(wanted_bundles(seat.bundle, seat.follow, self._state))

    def _open(self, seat: Seat) -> None:
        """Fill an empty seat with the first bundle that can be opened, while frames wait."""
        while (wanted := seat.next()) is not None and seat.model is None:
            try:
                model = self._opened(wanted)
            except AgentError as error:
                seat.refuse(wanted, str(error))
            else:
                self._seat(seat, wanted, model)

    def _opened(self, wanted: Wanted) -> Model:
        for seat in self._seats.values():
            if seat.model is not None and seat.serving == wanted:
                return seat.model
        self._heart.beat(LOAD_S)
        bundle = open_bundle(wanted)
        known = {model.digest: model for model in self._models}
        return known.get(bundle.digest) or Model(bundle, self._settings, self._files, self._heart)

    def _seat(self, seat: Seat, wanted: Wanted, model: Model) -> None:
        if model not in self._models:
            self._models.append(model)
            model.is_changed = False
        seat.take(wanted, model)

    def _go_on_loading(self) -> None:
        """See to the load that is under way, or begin the next one."""
        followed = [seat for seat in self._seats.values() if seat.follow is not None]
        if self._loading is not None:
            self._see_to(self._loading, followed)
        elif (wanted := next(filter(None, (seat.next() for seat in followed)), None)) is not None:
            logger().info("bundle is loaded beside serving", bundle=str(wanted.path))
            known = {model.digest: model for model in self._models}
            context = self._settings, self._files, self._heart
            self._loading = Loading(wanted, known, *context)

    def _see_to(self, loading: Loading, followed: list[Seat]) -> None:
        seats = [seat for seat in followed if seat.next() == loading.wanted]
        if not seats:
            loading.give_up()  # something newer is wanted, once this one's thread has ended
        if loading.is_done:
            self._loading = None
            self._take_over(loading, seats)
        elif loading.is_overdue:
            self._loading = None
            loading.give_up()
            for seat in seats:
                problem = f"{loading.wanted.path}: not ready within {LIMIT_S:.0f} s; given up"
                seat.refuse(loading.wanted, problem)

    def _take_over(self, loading: Loading, seats: list[Seat]) -> None:
        try:
            model = loading.model()
        except AgentError as error:
            for seat in seats:
                seat.refuse(loading.wanted, str(error))
            return
        for seat in seats:
            self._seat(seat, loading.wanted, model)

    def _drop_unused(self) -> None:
        """Let go of what no longer judges, unless one of its engines is just being started."""
        for model in list(self._models):
            is_in_use = any(seat.model is model for seat in self._seats.values())
            if not is_in_use and not model.is_loading:
                model.close()
                self._models.remove(model)

    def _note(self) -> None:
        """Say of each followed name what judges, where that is not said yet.

        Of several seats one that is not as wanted speaks. That nothing is wanted is no problem
        here: whoever just decides that something is would take it for one of that bundle.
        """
        if time.monotonic() < self._note_at:
            return
        for name in self._settings.followed:
            seats = [seat for seat in self._seats.values() if seat.follow == name]
            problems = dict.fromkeys(seat.problem for seat in seats if seat.problem)
            problems.pop(NO_BUNDLE, None)
            model = next((seat for seat in seats if not seat.is_as_wanted), seats[0]).model
            note = Swapped(
                digest=None if model is None else model.digest,
                problem="\n".join(problems) or None,
            )
            if note == self._noted.get(name):
                continue
            try:
                write_swapped(self._files.swapped(name), note)
                self._noted[name] = note
            except UpdateError as error:
                logger().error("not noted what judges", follows=name, problem=str(error))
                self._note_at = time.monotonic() + REREAD_S
