"""A bundle that judges, and the search for the engine that does it fastest.

Serving starts on the reference engine at once. Beside it:

1. Each engine that this machine and the bundle have is tried, one at a time, in a process of its
   own (`trial`), unless the trials of an earlier start are on the disk (`choice`).
2. The fastest that keeps to the vectors is loaded in a thread, replays the vectors once more, and
   takes over between two frames. Where it fails, the next one is taken.
3. An engine that fails on a frame is refused until the next start: the reference judges that very
   frame, and the search goes on with the next.

An engine that is pinned by the settings is loaded without a trial, as in 2.
"""

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path

import numpy as np

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError, EngineError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.background import in_background
from ssn_agent.inference.choice import Findings, circumstances, ranking
from ssn_agent.inference.engines.available import REFERENCE, available_engines
from ssn_agent.inference.scorer import Scored, Scorer
from ssn_agent.inference.settings import MAX_BATCH, EngineName
from ssn_agent.inference.trial import Trial, TrialProcess
from ssn_agent.log import logger
from ssn_agent.settings import Settings

CLOSE_S = 3.0
"""Less than the supervisor waits for the inference process to end."""
LOAD_S = 120.0
"""To open a bundle, start the reference engine and replay the vectors, on a small box."""
_ENDED = object()
_TRIALS = threading.Lock()
"""Held while a bundle's engines are tried: the trials of two would take each other's time."""


class Model:
    """A bundle in force, on the reference engine at first."""

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        files: RuntimeFiles,
        heart: Heartbeat,
        pause: float = 0.0,
    ) -> None:
        """Start the reference. Raises BundleError, EngineError where it fails. Takes up to LOAD_S.

        What is computed to prepare an engine is followed by a pause of so many times its length.
        `heart` is the main loop's: it is told before a fallback, which frames wait for, and left
        alone here, for this may be another thread (`loading`).
        """
        self._heart = heart
        self._pause = pause
        self._settings = settings.inference
        self._bundle = bundle
        self._engines = engines_for(self._bundle)
        key = circumstances(self._bundle.digest, self._engines, self._settings.threads)
        self._findings = Findings(settings.engine_dir / key)
        self._starting = files.engine_starting(self._bundle.digest)
        self._refused: dict[str, str] = {}
        self._trials: list[Trial] | None = None
        self.is_changed = False
        """Set where `scorer` or `problem` have changed; whoever reads them clears it."""
        self._loading: Future[Scorer] | None = None
        self._refuse_what_killed_us()
        self.scorer = self._load(REFERENCE)
        size = self.scorer.input
        self._rows = np.empty((MAX_BATCH, size.height, size.width, 3), np.uint8)
        self._image_s = 0.0
        self._search = self._find_fastest()

    @property
    def digest(self) -> str:
        """Return the bundle's."""
        return self._bundle.digest

    @property
    def engine_dir(self) -> Path:
        """Return the folder of what is kept for this bundle's engines, as they are here."""
        return self._findings.folder

    @property
    def problem(self) -> str:
        """Say which engines should judge and do not, and why, a line each; empty where none."""
        judge = self.scorer.engine.name
        about = f"{self._bundle.path}: "  # room is short, and whose bundle it is is known
        return "\n".join(
            f"engine {name} is refused, {judge} judges: {problem.removeprefix(about)}"
            for name, problem in self._refused.items()
        )

    @property
    def is_loading(self) -> bool:
        """Say whether an engine that is known to be better is on its way."""
        return self._loading is not None

    def search(self) -> bool:
        """Take the next step of the search, without waiting; say whether there are more."""
        return next(self._search, _ENDED) is not _ENDED

    def fits(self, count: int, left_s: float) -> bool:
        """Say whether so many images may be one batch, where the first is due in `left_s`."""
        expected_s = count * self._image_s
        bound_s = min(self._settings.batch_ms / 1000, left_s)
        return count <= self._max_batch(self.scorer) and expected_s <= bound_s

    def prepare(self, image: Pixels, row: int) -> Pixels:
        """Put an image of any size into a row of the next batch; return it. Raises ImageError."""
        size = self.scorer.input
        return to_network_input(image, size.height, size.width, out=self._rows[row])

    def score_prepared(self, count: int) -> list[Scored]:
        """Score the first `count` rows as one batch. Raises EngineError of the reference."""
        start = time.perf_counter()
        batch = self._rows[:count]
        try:
            found = self.scorer.score_batch(batch)
        except EngineError as error:
            failed = self.scorer.engine.name
            if failed == REFERENCE:
                raise
            self._refuse(failed, str(error))
            self._heart.beat(LOAD_S)
            self.scorer = self._load(REFERENCE)
            self._search = self._find_fastest()
            found = self.scorer.score_batch(batch)
        self._image_s = (time.perf_counter() - start) / count
        return found

    def close(self) -> None:
        """End in order: an engine that is being loaded has killed nobody.

        Waits for it: some runtimes abort where a process ends while they start. A trial that runs
        is killed.
        """
        self._search.close()
        if self._loading is not None:
            wait([self._loading], CLOSE_S)
        self._starting.unlink(missing_ok=True)

    def _find_fastest(self) -> Generator[object, None, None]:
        """The search, step by step: yields wherever it waits."""
        pinned = self._settings.engine
        order = (yield from self._rank()) if pinned == "auto" else [pinned]
        for name in order:
            if name == REFERENCE:
                return
            if name not in self._refused and (yield from self._take(name)):
                return

    def _rank(self) -> Generator[None, None, list[EngineName]]:
        if self._trials is None:
            self._trials = yield from self._run_trials()
            for trial in self._trials:
                if trial.problem is not None and trial.engine != REFERENCE:
                    self._refuse(trial.engine, trial.problem)
        return ranking(self._trials)

    def _run_trials(self) -> Generator[None, None, list[Trial]]:
        if set(self._engines) == {REFERENCE}:
            return []
        trials = self._findings.recall()
        if trials is None:
            while not _TRIALS.acquire(blocking=False):
                yield
            try:
                trials = []
                for name in self._engines:
                    trial = yield from self._try(name)
                    logger().info("engine tried", **trial.model_dump())
                    trials.append(trial)
            finally:
                _TRIALS.release()
            self._findings.keep(trials)
        return trials

    def _try(self, name: EngineName) -> Generator[None, None, Trial]:
        try:
            process = TrialProcess(self._bundle, name, self._settings.threads, self.engine_dir)
        except EngineError as error:
            return Trial(engine=name, problem=str(error), is_cut_off=True)
        while (trial := process.poll()) is None:
            try:
                yield
            except GeneratorExit:
                process.kill()
                raise
        return trial

    def _take(self, name: EngineName) -> Generator[None, None, bool]:
        """Load an engine beside serving and have it take over; say whether it did."""
        self._loading = loading = in_background(partial(self._load, name))
        while not loading.done():
            yield
        self._loading = None
        try:
            self.scorer = loading.result()
        except AgentError as error:
            self._refuse(name, str(error))
            return False
        self.is_changed = True
        logger().info("engine takes over", bundle=str(self._bundle.path), engine=name)
        return True

    def _load(self, name: EngineName) -> Scorer:
        """Start an engine and replay the vectors on it. Raises BundleError, EngineError."""
        try:
            if name != REFERENCE:
                self._starting.write_text(name, "utf-8")
            scorer = Scorer(
                self._bundle, self._settings.threads, engine=name, cache=self.engine_dir
            )
            scorer.check_vectors(self._pause)
            if name != REFERENCE:  # which is to judge at once, and needs no such thing
                self._warm_up(scorer)
        except OSError as error:
            msg = f"{self._starting}: cannot be written ({error.strerror}); check the folder"
            raise EngineError(msg) from error
        finally:
            self._starting.unlink(missing_ok=True)
        return scorer

    def _max_batch(self, scorer: Scorer) -> int:
        return self._settings.max_batch or scorer.engine.max_batch

    def _warm_up(self, scorer: Scorer) -> None:
        """Score a batch of each size: a runtime prepares for a size when it comes first."""
        for count in range(2, self._max_batch(scorer) + 1):
            size = count, scorer.input.height, scorer.input.width, 3
            begun = time.perf_counter()
            scorer.score_inputs(np.zeros(size, np.uint8))
            time.sleep(self._pause * (time.perf_counter() - begun))

    def _refuse_what_killed_us(self) -> None:
        """Refuse the engine whose loading the process before this one did not live through.

        Once: it may have been killed for another reason.
        """
        try:
            name = self._starting.read_text("utf-8")
        except FileNotFoundError:
            return
        self._refuse(name, "the process died while it was loaded; the next start tries again")

    def _refuse(self, name: str, problem: str) -> None:
        self._refused[name] = problem
        self.is_changed = True
        logger().error("engine refused", engine=name, problem=problem)


def engines_for(bundle: Bundle) -> dict[EngineName, str]:
    """Return the engines of this machine whose precision the bundle has, with their versions."""
    has = {precision.name for precision in bundle.manifest.precisions}
    here = available_engines().items()
    return {name: version for name, version in here if name.partition("/")[2] in has}
