"""Raw model output to published values: 0.5 is the threshold."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration

_Values = TypeVar("_Values", float, NDArray[np.float32], NDArray[np.float64])


def calibrate(raw: _Values, calibration: Calibration) -> _Values:
    """Return `1 / (1 + exp(-slope * (raw - threshold)))` element by element, in [0, 1].

    Exactly 0.5 at the threshold, so `raw >= threshold` and `score >= 0.5` always agree.
    """
    z = np.clip(calibration.slope * (raw - calibration.threshold), -60.0, 60.0)
    return 1.0 / (1.0 + np.exp(-z))  # type: ignore[no-any-return]  # numpy keeps the argument's kind
