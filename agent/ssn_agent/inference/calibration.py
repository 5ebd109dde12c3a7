"""Raw model output to published values: 0.5 is the threshold."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration

PUBLISHED_THRESHOLD = 0.5
"""A published score is a FAIL from here on, unless a camera's settings say otherwise."""

_Values = TypeVar("_Values", float, NDArray[np.float32], NDArray[np.float64])


def calibrate(raw: _Values, calibration: Calibration) -> _Values:
    """Return `1 / (1 + exp(-slope * (raw - threshold)))` element by element, in [0, 1].

    Exactly 0.5 at the threshold, so `raw >= threshold` and `score >= 0.5` always agree.
    """
    values = np.asarray(raw)
    z = np.clip(calibration.slope * (values - calibration.threshold), -60.0, 60.0)
    score = 1.0 / (1.0 + np.exp(-z))
    # Just below the threshold the exponential rounds to 1, and the score to 0.5.
    below = np.nextafter(values.dtype.type(0.5), values.dtype.type(0))
    score = np.where(values < calibration.threshold, np.minimum(score, below), score)
    if isinstance(raw, float):
        return float(score)
    return score  # type: ignore[no-any-return]  # numpy keeps the argument's kind
