"""Do parts change slowly? The last ones beside the bundle's good images: no I/O here.

Of each figure the median over a window of parts is looked at, so that a few bad parts, or pictures
of another kind, change nothing: it takes half of the window to move it anywhere.

- A figure of pictures drifts where the median is a quarter of the way from the good images' median
  to where a picture is unfit (`fitness`). It has ceased to when it is within an eighth.
- Scores drift where the median is one that four fifths of the good images do not reach, or exceed:
  those of them that the model was not trained on. They cease within three and seven tenths.

Nothing is said before the window is full. Pictures that are unfit are not counted: they are
INVALID, and say so.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ssn_agent.bundles.reference import Reference, Scores
from ssn_agent.inference.calibration import calibrate
from ssn_agent.inference.fitness import MIN_IMAGES, Bounds, Fitness, Measured
from ssn_agent.inference.settings import DriftSettings
from ssn_contract.drift import DriftStatus, Statistic
from ssn_contract.manifest import Calibration
from ssn_contract.messages import InvalidReason

Figures = Mapping[Statistic, float | None]
"""What is known of a part."""
_DRIFTS = 0.25
_CEASES = 0.125
"""Of the way to where a picture is unfit."""
_DRIFTS_DECILE = 8
_CEASES_DECILE = 7
"""Of ten, counted from above as from below."""


@dataclass(frozen=True)
class Limits:
    """Where a median is drift; infinite where there is no limit."""

    low: float
    high: float
    low_ceases: float
    high_ceases: float


def picture_limits(bounds: Bounds) -> dict[Statistic, Limits]:
    """Return the limits of the figures that good images support."""
    good, none = bounds.good, bounds.unsupported
    dark, blown_out = InvalidReason.DARK in none, InvalidReason.BLOWN_OUT in none
    found: dict[Statistic, Limits] = {}
    if not (dark and blown_out):
        middle = math.log(max(good.brightness.median, 0.5))
        darkest = -math.inf if dark else math.log(max(bounds.darkest, 1e-9))
        brightest = math.inf if blown_out else math.log(bounds.brightest)
        logs = _limits(middle, darkest, brightest)
        found["brightness"] = Limits(
            *(math.exp(v) for v in (logs.low, logs.high, logs.low_ceases, logs.high_ceases))
        )
    if not dark:
        found["black"] = _limits(good.black.median, -math.inf, bounds.black)
    if not blown_out:
        found["saturated"] = _limits(good.saturated.median, -math.inf, bounds.saturated)
    if InvalidReason.OUT_OF_FOCUS not in none:
        found["sharpness"] = _limits(good.sharpness.median, bounds.softest, math.inf)
    if InvalidReason.MOVED not in none and good.view is not None:
        found["shift"] = _limits(good.view.shift.median, -math.inf, bounds.furthest)
    return found


def score_limits(scores: Scores, calibration: Calibration) -> Limits:
    """Return the limits of published scores, for the raw ones of good images."""
    deciles = [calibrate(raw, calibration) for raw in scores.deciles]
    return Limits(
        low=deciles[10 - _DRIFTS_DECILE],
        high=deciles[_DRIFTS_DECILE],
        low_ceases=deciles[10 - _CEASES_DECILE],
        high_ceases=deciles[_CEASES_DECILE],
    )


def picture_figures(bounds: Bounds, seen: Measured) -> Figures:
    """Return the figures of a picture; None: it has no such figure."""
    supports_shift = InvalidReason.MOVED not in bounds.unsupported
    return {
        "brightness": seen.brightness,
        "black": seen.black,
        "saturated": seen.saturated,
        "sharpness": seen.sharpness,
        "shift": bounds.shift(seen) if supports_shift else None,
    }


@dataclass
class _Window:
    limits: Limits
    size: int
    values: deque[float] = field(default_factory=deque)
    """As they came."""
    ordered: list[float] = field(default_factory=list)
    """The same: kept in order, for serving waits for each decision on all windows."""
    since: datetime | None = None

    def add(self, value: float) -> None:
        """Take one, in place of the oldest where there are enough."""
        if len(self.values) == self.size:
            del self.ordered[bisect_left(self.ordered, self.values.popleft())]
        self.values.append(value)
        insort(self.ordered, value)

    def decide(self, now: datetime) -> float | None:
        """Return the median, where there are enough parts; note whether it drifts."""
        if len(self.values) < self.size:
            return None
        middle = (self.ordered[(self.size - 1) // 2] + self.ordered[self.size // 2]) / 2
        limits = self.limits
        if not limits.low <= middle <= limits.high:
            self.since = self.since or now
        elif limits.low_ceases <= middle <= limits.high_ceases:
            self.since = None
        return middle


class Drift:
    """The last parts that one bundle has judged for a camera, or for one product of it."""

    def __init__(
        self, reference: Reference, calibration: Calibration, settings: DriftSettings
    ) -> None:
        """Begin a window, against a bundle's good images; `calibration` is that of fp32 scores."""
        bounds, scores = Fitness(reference, ()).bounds, reference.scores
        limits = {} if bounds is None else picture_limits(bounds)
        if scores is not None and scores.images >= MIN_IMAGES:
            limits["score"] = score_limits(scores, calibration)
        self._windows: dict[Statistic, _Window] = {
            name: _Window(limits[name], settings.window)
            for name in settings.statistics
            if name in limits
        }
        self.off = tuple(name for name in settings.statistics if name not in limits)
        """What is wanted, and the bundle does not say enough for."""

    @property
    def watched(self) -> tuple[Statistic, ...]:
        """Return what is looked at."""
        return tuple(self._windows)

    def add(self, figures: Figures) -> None:
        """Take what is known of a part."""
        for name, window in self._windows.items():
            value = figures.get(name)
            if value is not None:
                window.add(value)

    def decide(self, product: str | None, now: datetime) -> list[DriftStatus]:
        """Say of each figure whether it drifts."""
        found = []
        for name, window in self._windows.items():
            middle = window.decide(now)
            found.append(
                DriftStatus(
                    statistic=name,
                    product=product,
                    parts=len(window.values),
                    median=middle,
                    low=_finite(window.limits.low),
                    high=_finite(window.limits.high),
                    since=window.since,
                )
            )
        return found


def _limits(middle: float, lowest: float, highest: float) -> Limits:
    def on_the_way(share: float, end: float) -> float:
        return end if math.isinf(end) else middle + share * (end - middle)

    return Limits(
        low=on_the_way(_DRIFTS, lowest),
        high=on_the_way(_DRIFTS, highest),
        low_ceases=on_the_way(_CEASES, lowest),
        high_ceases=on_the_way(_CEASES, highest),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
