"""A bundle's engines tried as inference does, so that it finds at the swap what was found here."""

import time
from collections.abc import Callable

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError, EngineError
from ssn_agent.inference.choice import Findings, circumstances, ranking
from ssn_agent.inference.engines.available import REFERENCE
from ssn_agent.inference.model import engines_for
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_agent.inference.trial import Trial, TrialProcess
from ssn_agent.log import logger
from ssn_agent.settings import Settings

POLL_S = 0.1


class Engines:
    """The engines of one bundle on this box."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Look which there are; `try_all` tries them."""
        self._bundle = bundle
        self._settings = settings.inference
        self._names = engines_for(bundle)
        key = circumstances(bundle.digest, self._names, self._settings.threads)
        self._findings = Findings(settings.engine_dir / key)

    def try_all(self, alive: Callable[[], None]) -> list[Trial]:
        """Try each in a process of its own, unless that was done before; `alive` is called often.

        As in `inference.model`, nothing is tried where the settings pin an engine.
        """
        if self._settings.engine != "auto" or set(self._names) == {REFERENCE}:
            return []
        trials = self._findings.recall()
        if trials is None:
            trials = [self._try(name, alive) for name in self._names]
            self._findings.keep(trials)
        return trials

    def load_fastest(self) -> Scorer:
        """Return the bundle on the engine that would judge. Raises BundleError, EngineError."""
        pinned = self._settings.engine
        order = ranking(self._findings.recall() or []) if pinned == "auto" else [pinned]
        for name in order:
            try:
                return self.load(name)
            except AgentError as error:
                logger().warning("engine does not load", engine=name, problem=str(error))
        return self.load(REFERENCE)

    def load(self, name: EngineName) -> Scorer:
        """Return the bundle on an engine, its vectors replayed. Raises BundleError, EngineError."""
        scorer = Scorer(
            self._bundle, self._settings.threads, engine=name, cache=self._findings.folder
        )
        scorer.check_vectors()
        return scorer

    def _try(self, name: EngineName, alive: Callable[[], None]) -> Trial:
        try:
            process = TrialProcess(
                self._bundle, name, self._settings.threads, self._findings.folder
            )
        except EngineError as error:
            return Trial(engine=name, problem=str(error), is_cut_off=True)
        while (trial := process.poll()) is None:
            alive()
            time.sleep(POLL_S)
        logger().info("engine tried", **trial.model_dump())
        return trial
