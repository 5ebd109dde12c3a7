"""The raw threshold and the calibration, from the scores of the tune part alone.

FAIL when raw >= threshold. It is chosen for the limits that were stated (docs/thresholds.md), or
without any for the best F1. The slope puts the tune image of median distance from the threshold at
a published score of 0.12 or 0.88, so that [0, 1] is used and not saturated.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration, RateLimit, Threshold
from ssn_trainer.errors import TrainingError
from ssn_trainer.measure.bounds import images_needed, upper_bound
from ssn_trainer.measure.limits import Limits, best_cut, of_parts, rate_limit
from ssn_trainer.measure.metrics import refuse_nan
from ssn_trainer.measure.tail import FEWEST_PARTS, fit_needs, fit_tail

MAP_EXCEEDED_SHARE = 0.01
"""The share of the good tune images whose map maximum may reach the map threshold."""

_MEDIAN_LOGIT = 2.0
_NONE = Limits()


def choose_threshold(
    good: NDArray[Any],
    bad: NDArray[Any],
    limits: Limits = _NONE,
    good_groups: Sequence[str] | None = None,
    bad_groups: Sequence[str] | None = None,
) -> tuple[Threshold, Calibration]:
    """Choose from the raw scores of the good [N] and the bad [M] tune images.

    With `limits`: see `limits.best_cut`, by parts, which the groups [N] and [M] tell (None: each
    image its own); with good images only, where they are too few to count errors, a limit on false
    rejects by an extreme-value fit. Where the tune part does not support a limit, the best cut is
    chosen all the same, and the Threshold says so.

    Without limits, with bad images: the cut with the highest F1 of bad, midway between neighbouring
    scores; of equal cuts the one with the widest gap. Without bad images: an upper limit of the
    good scores. Raises TrainingError where there is no good score or one is not a number.
    """
    good, bad = _scores(good), _scores(bad)
    _refuse_empty(good)
    false_reject, escape = None, None
    if limits:
        good_parts = of_parts(good, good_groups, highest=True)
        bad_parts = of_parts(bad, bad_groups, highest=False)
        threshold, method, false_reject, escape = _within(good_parts, bad_parts, limits)
    elif bad.size:
        threshold, method = _best_f1(good, bad)
    else:
        threshold, method = _above_good(good)
    chosen = Threshold(
        method=method,
        good_images=good.size,
        bad_images=bad.size,
        false_reject=false_reject,
        escape=escape,
    )
    return chosen, _calibration(threshold, np.concatenate([good, bad]))


def choose_map_threshold(good_maxima: NDArray[Any]) -> Calibration:
    """Choose from the raw map maxima of the good tune images, [N].

    At most 1 % of them reach the threshold: with fewer than 100 images none does. Raises
    TrainingError where there is no maximum or one is not a number.
    """
    maxima = np.sort(_scores(good_maxima))[::-1]
    _refuse_empty(maxima)
    allowed = int(MAP_EXCEEDED_SHARE * maxima.size)
    return _calibration(_just_above(maxima[allowed:]), maxima)


def _within(
    good: NDArray[np.float64], bad: NDArray[np.float64], limits: Limits
) -> tuple[float, str, RateLimit | None, RateLimit | None]:
    """Threshold, method and what supports each limit; scores are those of parts."""
    allowed, escapes = limits.false_reject, limits.escape
    if bad.size or (allowed and upper_bound(0, good.size) <= allowed):
        cut = best_cut(good, bad, limits, _just_above(np.concatenate([good, bad])))
        method = (
            "for the stated limits, by exact one-sided 95 % bounds on the tune part: "
            f"{cut.rejected} of {good.size} good parts rejected, {cut.passed} of {bad.size} bad "
            "parts passed"
        )
        return (
            cut.threshold,
            method,
            rate_limit(allowed, cut.rejected, good.size) if allowed else None,
            rate_limit(escapes, cut.passed, bad.size) if escapes else None,
        )
    escape = rate_limit(escapes, 0, 0) if escapes else None
    if not allowed:
        return *_above_good(good), None, escape
    return *_by_tail(good, allowed), escape


def _by_tail(good: NDArray[np.float64], allowed: float) -> tuple[float, str, RateLimit]:
    """A limit on false rejects from good parts that are too few to count errors."""
    needed = fit_needs(allowed)
    tail = fit_tail(good, allowed)
    if tail is None:
        threshold, method = _above_good(good)
        too_few = good.size < FEWEST_PARTS
        why = f"{good.size} are too few for a fit" if too_few else "their tail has no spread"
        method = f"{method}; no extreme-value fit of the good parts: {why}"
        supported = False
    else:
        # Nothing that was seen to be good is rejected: fewer errors than none cannot be counted.
        threshold = max(tail.limit, _just_above(good))
        method = (
            f"extreme-value fit (generalised Pareto) of the highest of {good.size} good parts: the "
            f"score that a share of {allowed:g} exceeds is most likely {tail.likely:.4g}, and "
            f"below {tail.limit:.4g} with 95 % confidence"
        )
        if not tail.fits:
            method += "; the fit is poor"
        supported = tail.fits and good.size >= needed
    by_count = rate_limit(allowed, 0, good.size)
    # Where the fit cannot be trusted, the bound is that of counting, which assumes nothing.
    bound = allowed if supported else by_count.upper_bound
    more = None if supported else needed if good.size < needed else images_needed(allowed)
    changes = {"supported": supported, "upper_bound": bound, "images_needed": more}
    return threshold, method, by_count.model_copy(update=changes)


def _above_good(good: NDArray[np.float64]) -> tuple[float, str]:
    limit = float(np.median(good) + 3 * _sigma(good))
    method = (
        "the larger of median + 3 robust sigma (1.4826 x median absolute deviation) and a tenth"
        " of the way from the median past the largest score, of the good tune images"
    )
    return max(limit, _just_above(good)), method


def _best_f1(good: NDArray[np.float64], bad: NDArray[np.float64]) -> tuple[float, str]:
    values = np.unique(np.concatenate([good, bad]))
    gaps = np.diff(values, prepend=values[0])  # the lowest score as the cut: everything fails
    hits = bad.size - np.searchsorted(np.sort(bad), values)  # bad scores at or above each value
    alarms = good.size - np.searchsorted(np.sort(good), values)
    f1 = 2 * hits / (hits + alarms + bad.size)
    best = max(range(values.size), key=lambda i: (f1[i], gaps[i]))
    method = f"highest F1 of bad on the tune images ({f1[best]:.3f}), midway between two scores"
    return float(values[best] - gaps[best] / 2), method


def _just_above(scores: NDArray[np.float64]) -> float:
    """A tenth of the way from the median past the largest, and in any case above it."""
    largest, median = float(scores.max()), float(np.median(scores))
    return max(largest + 0.1 * (largest - median), float(np.nextafter(np.float32(largest), np.inf)))


def _sigma(scores: NDArray[np.float64]) -> float:
    return float(1.4826 * np.median(np.abs(scores - np.median(scores))))


def _calibration(threshold: float, scores: NDArray[np.float64]) -> Calibration:
    distances = np.abs(scores - threshold)
    # With constant scores no distance says anything; the floor keeps the slope finite.
    floor = 1e-6 * max(1.0, abs(threshold))
    spread = max(float(np.median(distances)), float(distances.mean()) / 10, floor)
    return Calibration(threshold=threshold, slope=_MEDIAN_LOGIT / spread)


def _scores(values: NDArray[Any]) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64).ravel()
    refuse_nan(scores)
    return scores


def _refuse_empty(good: NDArray[np.float64]) -> None:
    if good.size == 0:
        msg = "no good image in the tune part: no threshold can be chosen; add good images"
        raise TrainingError(msg)
