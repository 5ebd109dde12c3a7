"""A published score says the same as the raw one: 0.5 is the threshold, to the last bit."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ssn_agent.inference.calibration import calibrate
from ssn_contract.manifest import Calibration

thresholds = st.floats(-1e6, 1e6)
slopes = st.floats(1e-6, 1e6)
calibrations = st.builds(Calibration, threshold=thresholds, slope=slopes)
maps = arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32))
JUST_BELOW = float(np.nextafter(0.5, 0))


@given(calibrations, st.floats(-1e9, 1e9))
@example(Calibration(threshold=0.5, slope=1.0), JUST_BELOW)
@example(Calibration(threshold=0.5, slope=1.0), 0.5)
def test_a_score_reaches_one_half_exactly_when_the_raw_one_reaches_its_threshold(
    calibration: Calibration, raw: float
) -> None:
    score = calibrate(raw, calibration)
    assert (score >= 0.5) == (raw >= calibration.threshold)
    assert 0.0 <= score <= 1.0


@given(calibrations, st.integers(-3, 3))
def test_neighbours_of_the_threshold_fall_on_their_own_side(
    calibration: Calibration, steps: int
) -> None:
    raw = calibration.threshold
    for _ in range(abs(steps)):
        raw = float(np.nextafter(raw, np.inf if steps > 0 else -np.inf))
    assert (calibrate(raw, calibration) >= 0.5) == (steps >= 0)


@given(calibrations, maps)
def test_a_map_reaches_one_half_exactly_where_the_raw_one_reaches_its_threshold(
    calibration: Calibration, raw: "np.typing.NDArray[np.float32]"
) -> None:
    raw.flat[0] = np.float32(calibration.threshold)
    raw.flat[1] = np.nextafter(np.float32(calibration.threshold), np.float32(-np.inf))
    calibrated = calibrate(raw, calibration)
    assert calibrated.dtype == np.float32
    assert calibrated.shape == raw.shape
    assert np.array_equal(calibrated >= 0.5, raw >= calibration.threshold)


@given(calibrations, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_higher_raw_score_is_never_published_as_a_lower_one(
    calibration: Calibration, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    assert calibrate(low, calibration) <= calibrate(high, calibration)


def test_a_single_score_stays_a_plain_number_that_json_can_hold() -> None:
    assert type(calibrate(0.3, Calibration(threshold=0.5, slope=10.0))) is float


def test_a_score_follows_the_stated_formula() -> None:
    score = calibrate(0.7, Calibration(threshold=0.5, slope=10.0))
    assert score == 1 / (1 + np.exp(-10.0 * (0.7 - 0.5)))
