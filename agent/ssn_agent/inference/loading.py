"""A bundle that is made ready in a thread beside serving, to take over on its best engine.

The thread has the new `Model` for itself until it ends: it opens the bundle, replays the vectors on
the reference and takes the search for the fastest engine to its end. A bundle that was tried in the
updates process finds the trials on the disk. Only then does the main loop touch it.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import wait

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import BundleError, EngineError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.background import in_background
from ssn_agent.inference.model import Model
from ssn_agent.inference.swapping import Wanted
from ssn_agent.settings import Settings

LIMIT_S = 300.0
"""A bundle that is not ready by then is given up."""
_STEP_S = 0.02
_PAUSE = 3.0
"""As in a trial: serving needs the processor, its caches and memory. The thread cannot have a lower
priority instead, for the engine's own threads would inherit it, and keep it when they judge."""


def open_bundle(wanted: Wanted) -> Bundle:
    """Open a bundle and see that it is the wanted one. Raises BundleError."""
    bundle = Bundle.open(wanted.path)
    if wanted.digest not in (None, bundle.digest):
        msg = (
            f"{wanted.path}: is {bundle.digest}, and {wanted.digest} is wanted; the file was "
            "replaced: fetch the bundle again"
        )
        raise BundleError(msg)
    return bundle


class Loading:
    """A load under way."""

    def __init__(
        self,
        wanted: Wanted,
        open_models: Mapping[str, Model],
        settings: Settings,
        files: RuntimeFiles,
        heart: Heartbeat,
    ) -> None:
        """Start it. `open_models`: those of the main loop, by digest; one of them may do."""
        self.wanted = wanted
        self._open_models = open_models
        self._context = settings, files, heart
        self._given_up = threading.Event()
        self._ends_at = time.monotonic() + LIMIT_S
        self._future = in_background(self._load)

    @property
    def is_done(self) -> bool:
        """Say whether the thread has come to its end."""
        return self._future.done()

    @property
    def is_overdue(self) -> bool:
        """Say whether it takes too long."""
        return time.monotonic() >= self._ends_at

    def give_up(self) -> None:
        """Have the thread end as soon as it can."""
        self._given_up.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        wait([self._future], timeout_s)

    def model(self) -> Model:
        """Return the model, once it is done. Raises BundleError, EngineError."""
        return self._future.result()

    def _load(self) -> Model:
        bundle = open_bundle(self.wanted)
        if bundle.digest in self._open_models:
            return self._open_models[bundle.digest]
        model = Model(bundle, *self._context, _PAUSE)
        while model.search():
            if self._given_up.wait(_STEP_S):
                model.close()
                msg = f"{self.wanted.path}: its load was given up"
                raise EngineError(msg)
        return model
