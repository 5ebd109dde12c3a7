"""Thresholds come from the tune scores, and the published score crosses 0.5 at them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from ssn_agent.inference.calibration import calibrate
from ssn_trainer.errors import TrainingError
from ssn_trainer.measure.threshold import choose_map_threshold, choose_threshold

# Scores a thousandth or more apart: a float cannot tell a logistic of 1e-30 from one half.
values = st.integers(-(10**6), 10**6).map(lambda v: v / 1000)
some = st.lists(values, min_size=1, max_size=40).map(np.array)


def f1_at(threshold: float, good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    labels = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    return float(f1_score(labels, np.r_[good, bad] >= threshold))


@settings(deadline=None)
@given(some, some)
def test_no_other_cut_has_a_higher_f1(good: NDArray[np.float64], bad: NDArray[np.float64]) -> None:
    _, calibration = choose_threshold(good, bad)
    best = max(f1_at(cut, good, bad) for cut in np.r_[good, bad])
    assert f1_at(calibration.threshold, good, bad) == pytest.approx(best)


@settings(deadline=None)
@given(some, some)
def test_the_published_score_is_at_half_exactly_where_the_raw_one_fails(
    good: NDArray[np.float64], bad: NDArray[np.float64]
) -> None:
    _, calibration = choose_threshold(good, bad)
    raw = np.r_[good, bad]
    published = calibrate(raw, calibration)
    assert np.array_equal(published >= 0.5, raw >= calibration.threshold)
    assert ((published >= 0) & (published <= 1)).all()


def test_scores_that_part_cleanly_are_cut_in_the_middle_of_the_gap() -> None:
    chosen, calibration = choose_threshold(np.array([0.0, 1.0, 2.0]), np.array([6.0, 7.0]))
    assert calibration.threshold == 4.0
    assert (chosen.good_images, chosen.bad_images) == (3, 2)
    assert "F1" in chosen.method


def test_of_equal_cuts_the_widest_gap_is_taken() -> None:
    good, bad = np.array([0.0, 2.0, 3.0]), np.array([1.0, 9.0])
    assert f1_at(0.5, good, bad) == f1_at(6.0, good, bad)
    assert choose_threshold(good, bad)[1].threshold == 6.0


@settings(deadline=None)
@given(some)
def test_without_bad_images_no_good_tune_image_fails(good: NDArray[np.float64]) -> None:
    chosen, calibration = choose_threshold(good, np.array([]))
    assert (good < calibration.threshold).all()
    assert (chosen.good_images, chosen.bad_images) == (len(good), 0)
    assert "3 robust sigma" in chosen.method


def test_without_bad_images_the_limit_follows_the_spread_of_the_good_ones() -> None:
    good = np.random.default_rng(0).normal(10, 2, 1000)
    _, calibration = choose_threshold(good, np.array([]))
    assert 10 + 3 * 2 <= calibration.threshold <= 10 + 5 * 2


@pytest.mark.parametrize("bad", [[], [0.5], [0.5] * 9])
@pytest.mark.parametrize("value", [0.5, 0.0, 1e6])
def test_constant_scores_give_a_finite_calibration(bad: list[float], value: float) -> None:
    _, calibration = choose_threshold(np.full(7, value), np.array(bad) * 2 * value)
    assert np.isfinite([calibration.threshold, calibration.slope]).all()
    assert calibration.slope > 0


def test_published_scores_spread_over_the_range() -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 1e3):
        good, bad = scale * rng.normal(0, 1, 200), scale * rng.normal(6, 1, 80)
        _, calibration = choose_threshold(good, bad)
        assert 0.05 < np.median(calibrate(good, calibration)) < 0.2
        assert 0.8 < np.median(calibrate(bad, calibration)) < 0.98


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=350))
def test_at_most_one_good_map_in_a_hundred_reaches_the_map_threshold(maxima: list[float]) -> None:
    calibration = choose_map_threshold(np.array(maxima))
    assert (np.array(maxima) >= calibration.threshold).sum() <= 0.01 * len(maxima)


def test_in_large_sets_a_single_glaring_good_image_does_not_raise_the_map_threshold() -> None:
    maxima = np.r_[np.random.default_rng(2).normal(1, 0.1, 199), 50.0]
    assert choose_map_threshold(maxima).threshold < 2


@pytest.mark.parametrize("good", [[], [0.0, np.nan], [np.inf]])
def test_no_scores_or_scores_that_are_no_numbers_are_refused(good: list[float]) -> None:
    with pytest.raises(TrainingError):
        choose_threshold(np.array(good), np.array([1.0]))
    with pytest.raises(TrainingError):
        choose_map_threshold(np.array(good))
