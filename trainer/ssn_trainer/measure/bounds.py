"""What so many parts, so many of them judged wrongly, prove about a rate of errors.

All bounds are exact, one-sided and at 95 % (Clopper and Pearson, Biometrika 26, 1934).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
_MOST = 2**40


def upper_bound(errors: ArrayLike, parts: int) -> NDArray[np.float64]:
    """Return the upper bound of the rate where `errors` of `parts` (at least 1) were wrong."""
    wrong = np.asarray(errors, np.float64)
    # The beta distribution has no place for "all of them": the bound is 1 there.
    bound = stats.beta.ppf(CONFIDENCE, wrong + 1, np.maximum(parts - wrong, np.finfo(float).tiny))
    return np.where(wrong < parts, bound, 1.0)


def images_needed(limit: float, rate: float = 0.0) -> int | None:
    """Return how many images, each of another part, it takes to support `limit`, in (0, 1).

    `rate` of them are wrong: without an error n >= log(0.05) / log(1 - limit). None where the rate
    is not below the limit (or so close to it that no number would do): then not images are missing
    but a better model.
    """
    if rate >= limit:
        return None
    if rate == 0:
        return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-limit))
    high = 1
    while upper_bound(rate * high, high) > limit:
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:  # the bound falls with the number: halve the span
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(rate * middle, middle) > limit else (low, middle)
    return high
