"""A camera's watch for drift: what judges its parts may differ by product, and each has a window.

It says every few seconds what it has found, in a file of the runtime directory, for the ledger
process to tell. A window is in memory alone: a new process begins anew.
"""

import time
from datetime import datetime, timezone
from pathlib import Path

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.drift_note import write_drift
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.drift import Drift, Figures, picture_figures
from ssn_agent.inference.fitness import Fitness, measure
from ssn_agent.inference.settings import DriftSettings
from ssn_agent.log import logger
from ssn_contract.drift import MAX_DRIFTS, DriftStatus, Statistic

NOTE_S = 2.0


class DriftWatch:
    """What one camera's parts are like, by product."""

    def __init__(self, camera: str, path: Path) -> None:
        """Begin; what the process before this one has noted at `path` is void."""
        self._camera = camera
        self._path = path
        self._settings: DriftSettings | None = None
        self._drifts: dict[str | None, tuple[str, Drift]] = {}
        """The one that was added to last is the last; each with its bundle's digest."""
        self._drifting: set[tuple[str | None, Statistic]] = set()
        self._passed_over = 0
        self._is_changed = False
        self._note_at = 0.0
        path.unlink(missing_ok=True)

    def look(
        self, fitness: Fitness, row: Pixels, size: tuple[int, int], settings: DriftSettings
    ) -> Figures:
        """Return the figures of a picture that `fitness` has found fit; see `fitness.measure`.

        They cost nothing where it has measured the picture. Otherwise each so manyth is measured,
        and the others have none.
        """
        if fitness.bounds is None or not {*settings.statistics} - {"score"}:
            return {}
        if fitness.checks and fitness.seen is not None:
            return picture_figures(fitness.bounds, fitness.seen)
        self._passed_over += 1
        if self._passed_over < settings.every:
            return {}
        self._passed_over = 0
        return picture_figures(fitness.bounds, measure(row, *size))

    def add(
        self, product: str | None, bundle: Bundle, figures: Figures, settings: DriftSettings
    ) -> None:
        """Take a part that was judged; another bundle or other settings begin a new window."""
        if settings != self._settings:  # also of products of which none may come for long
            self._settings = settings
            self._drifts.clear()
        digest, drift = self._drifts.pop(product, (None, None))
        if drift is None or digest != bundle.digest:
            drift = self._begin(product, bundle, settings)
        self._drifts[product] = bundle.digest, drift
        drift.add(figures)
        self._is_changed = True

    def note(self) -> None:
        """Say what was found, when it is time and there is something new."""
        if not self._is_changed or time.monotonic() < self._note_at:
            return
        self._note_at = time.monotonic() + NOTE_S
        self._is_changed = False
        now = datetime.now(timezone.utc)
        found = [
            status
            for product, (_, drift) in reversed(self._drifts.items())
            for status in drift.decide(product, now)
        ]
        found.sort(key=lambda status: status.since is None)
        self._log(found)
        write_drift(self._path, found[:MAX_DRIFTS])

    def _begin(self, product: str | None, bundle: Bundle, settings: DriftSettings) -> Drift:
        drift = Drift(bundle.reference, bundle.manifest.precision("fp32").score, settings)
        logger().info(
            "parts are watched for drift",
            camera=self._camera,
            product=product,
            watched=drift.watched,
            not_known_of_good_images=drift.off,
        )
        return drift

    def _log(self, found: list[DriftStatus]) -> None:
        drifting = {(s.product, s.statistic) for s in found if s.since is not None}
        for status in found:
            key = status.product, status.statistic
            if (key in drifting) != (key in self._drifting):
                says = "parts drift" if key in drifting else "parts drift no longer"
                logger().warning(says, camera=self._camera, **status.model_dump(mode="json"))
        self._drifting = drifting
