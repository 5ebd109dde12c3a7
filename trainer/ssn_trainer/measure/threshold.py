"""The raw threshold and the calibration, from the scores of the tune part alone.

FAIL when raw >= threshold. The slope puts the tune image of median distance from the threshold at a
published score of 0.12 or 0.88, so that [0, 1] is used and not saturated.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration, Threshold
from ssn_trainer.errors import TrainingError

MAP_EXCEEDED_SHARE = 0.01
"""The share of the good tune images whose map maximum may reach the map threshold."""

_MEDIAN_LOGIT = 2.0


def choose_threshold(good: NDArray[Any], bad: NDArray[Any]) -> tuple[Threshold, Calibration]:
    """Choose from the raw scores of the good [N] and the bad [M] tune images.

    With bad images: the cut with the highest F1 of bad, midway between neighbouring scores; of
    equal cuts the one with the widest gap. Without: an upper limit of the good scores. Raises
    TrainingError where there is no good score or one is not a number.
    """
    good, bad = _scores(good), _scores(bad)
    _refuse_empty(good)
    if bad.size:
        threshold, method = _best_f1(good, bad)
    else:
        limit = float(np.median(good) + 3 * _sigma(good))
        threshold = max(limit, _just_above(good))
        method = (
            "the larger of median + 3 robust sigma (1.4826 x median absolute deviation) and a tenth"
            " of the way from the median past the largest score, of the good tune images"
        )
    chosen = Threshold(method=method, good_images=good.size, bad_images=bad.size)
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
    if not np.isfinite(scores).all():
        msg = "the model gave scores that are no numbers; train it anew, with a lower rate"
        raise TrainingError(msg)
    return scores


def _refuse_empty(good: NDArray[np.float64]) -> None:
    if good.size == 0:
        msg = "no good image in the tune part: no threshold can be chosen; add good images"
        raise TrainingError(msg)
