"""A threshold keeps to the limits that were stated, and claims no more than the tune part shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ssn_contract.manifest import RateLimit
from ssn_trainer.errors import UsageError
from ssn_trainer.measure.bounds import images_needed, upper_bound
from ssn_trainer.measure.limits import LEAST_LIMIT, Limits, unsupported
from ssn_trainer.measure.tail import FEWEST_PARTS, fit_needs, fit_tail
from ssn_trainer.measure.threshold import choose_threshold

Scores = NDArray[np.float64]
values = st.integers(-40, 40).map(lambda v: v / 8)  # few values: ties are common
some = st.lists(values, min_size=1, max_size=60).map(np.array)
shares = st.floats(0.01, 0.99)


def exact(errors: int, parts: int) -> float:
    """Return scipy's own exact bound."""
    test = stats.binomtest(errors, parts, alternative="less")
    return float(test.proportion_ci(0.95, "exact").high)


def allowed(limit: float, parts: int) -> int | None:
    """Return the most errors that support a limit, by trying; None where none does."""
    supporting = [k for k in range(parts + 1) if exact(k, parts) <= limit]
    return max(supporting, default=None)


def threshold_of(good: Scores, bad: Scores, limits: Limits) -> float:
    return choose_threshold(good, bad, limits)[1].threshold


@given(st.integers(1, 300), st.data())
def test_bounds_are_those_of_scipy(parts: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, parts))
    assert float(upper_bound(errors, parts)) == pytest.approx(exact(errors, parts), abs=1e-9)


@given(st.floats(1e-4, 0.9))
def test_without_an_error_the_number_needed_is_the_first_that_supports_the_limit(
    limit: float,
) -> None:
    needed = images_needed(limit)
    assert needed is not None
    assert upper_bound(0, needed) <= limit + 1e-12
    assert needed == 1 or upper_bound(0, needed - 1) > limit


@given(st.floats(0.001, 0.9), st.floats(0.01, 0.9))
def test_with_errors_at_a_rate_it_takes_as_many_as_bring_the_bound_down_to_the_limit(
    limit: float, of_it: float
) -> None:
    needed = images_needed(limit, of_it * limit)
    assert needed is not None
    assert needed >= (images_needed(limit) or 0)
    assert upper_bound(of_it * limit * needed, needed) <= limit
    assert needed == 1 or upper_bound(of_it * limit * (needed - 1), needed - 1) > limit


@given(shares, shares)
def test_no_number_supports_a_limit_that_the_observed_rate_reaches(a: float, b: float) -> None:
    assert images_needed(min(a, b), max(a, b)) is None


def holds(found: RateLimit | None, limit: float, errors: int, parts: int) -> bool:
    """Tell whether a limit is kept, after checking that it is reported as it is."""
    assert found is not None
    assert (found.limit, found.parts) == (limit, parts)
    assert found.observed == pytest.approx(errors / parts)
    assert found.upper_bound == pytest.approx(exact(errors, parts))
    assert found.supported == (exact(errors, parts) <= limit)
    assert (found.images_needed is None) or not found.supported
    return found.supported


@settings(deadline=None)
@given(some, some, shares)
def test_a_supported_limit_of_false_rejects_is_kept_with_the_fewest_escapes(
    good: Scores, bad: Scores, limit: float
) -> None:
    chosen, calibration = choose_threshold(good, bad, Limits(false_reject=limit))
    cut = calibration.threshold
    kept = holds(chosen.false_reject, limit, int((good >= cut).sum()), good.size)
    most = allowed(limit, good.size)
    assert kept == (most is not None)
    assert chosen.escape is None
    if most is None:  # the best that can be: no good part is rejected
        assert not (good >= cut).any()
    others = [c for c in bad if (good >= c).sum() <= (most or 0)]
    assert (bad < cut).sum() <= min(((bad < c).sum() for c in others), default=bad.size)


@settings(deadline=None)
@given(some, some, shares)
def test_a_supported_limit_of_escapes_is_kept_with_the_fewest_false_rejects(
    good: Scores, bad: Scores, limit: float
) -> None:
    chosen, calibration = choose_threshold(good, bad, Limits(escape=limit))
    cut = calibration.threshold
    kept = holds(chosen.escape, limit, int((bad < cut).sum()), bad.size)
    most = allowed(limit, bad.size)
    assert kept == (most is not None)
    if most is None:
        assert not (bad < cut).any()
    others = [c for c in np.r_[good, bad] if (bad < c).sum() <= (most or 0)]
    assert (good >= cut).sum() <= min((good >= c).sum() for c in others)


@settings(deadline=None)
@given(some, some, shares, shares)
def test_both_limits_are_kept_where_any_cut_keeps_both_else_the_escapes_come_first(
    good: Scores, bad: Scores, reject: float, escape: float
) -> None:
    chosen, calibration = choose_threshold(good, bad, Limits(reject, escape))
    cut = calibration.threshold
    kept = (
        holds(chosen.false_reject, reject, int((good >= cut).sum()), good.size),
        holds(chosen.escape, escape, int((bad < cut).sum()), bad.size),
    )
    rejects, escapes = allowed(reject, good.size), allowed(escape, bad.size)
    every = np.r_[good, bad, np.inf]
    if rejects is not None and escapes is not None:
        possible = any((good >= c).sum() <= rejects and (bad < c).sum() <= escapes for c in every)
        assert kept == ((True, True) if possible else (False, True))
    else:
        assert kept == (rejects is not None, escapes is not None)
    assert len(unsupported(chosen)) == 2 - sum(kept)


@settings(deadline=None)
@given(some, some, shares, shares)
def test_a_wider_limit_never_makes_the_other_kind_of_error_worse(
    good: Scores, bad: Scores, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    rejecting = [threshold_of(good, bad, Limits(false_reject=r)) for r in (low, high)]
    assert rejecting[0] >= rejecting[1]
    escaping = [threshold_of(good, bad, Limits(escape=e)) for e in (low, high)]
    assert escaping[0] <= escaping[1]


@settings(deadline=None, max_examples=30)
@given(st.integers(5, 400), shares, shares, st.integers(0, 99))
def test_with_good_images_only_a_wider_limit_never_raises_the_threshold(
    parts: int, a: float, b: float, seed: int
) -> None:
    good = np.random.default_rng(seed).normal(0, 1, parts)
    low, high = sorted((a / 10, b / 10))
    cuts = [threshold_of(good, np.array([]), Limits(false_reject=r)) for r in (low, high)]
    assert cuts[0] >= cuts[1]


def test_scores_that_are_all_equal_are_cut_above_or_below() -> None:
    tied, few = np.full(200, 1.0), np.full(5, 1.0)
    assert threshold_of(tied, few, Limits(false_reject=0.05)) > 1
    assert threshold_of(few, tied, Limits(escape=0.05)) <= 1
    chosen, calibration = choose_threshold(tied, np.array([]), Limits(false_reject=0.005))
    assert calibration.threshold > 1
    assert "no spread" in chosen.method


def test_photographs_of_one_part_are_one_piece_of_evidence_and_any_of_them_can_be_wrong() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.normal(0, 1, 320), rng.normal(9, 1, 80)
    good_groups = [f"part{i // 8}" for i in range(320)]
    bad_groups = [f"part{i // 2}" for i in range(80)]  # some parts have good and bad images
    good[0], bad[1] = 20.0, -20.0  # one image of each first part is judged wrongly for sure
    limits = Limits(0.02, 0.2)
    alone, _ = choose_threshold(good, bad, limits)
    found, _ = choose_threshold(good, bad, limits, good_groups, bad_groups)
    assert alone.false_reject is not None
    assert found.false_reject is not None
    assert found.escape is not None
    assert alone.false_reject.supported
    assert not found.false_reject.supported
    assert (found.false_reject.parts, found.escape.parts) == (40, 40)
    assert found.false_reject.observed == found.escape.observed == 1 / 40
    assert (found.good_images, found.bad_images) == (320, 80)


def test_what_is_not_supported_is_said_with_the_number_that_it_takes() -> None:
    good, bad = np.arange(20.0), np.arange(100.0, 110.0)
    [sentence] = unsupported(choose_threshold(good, bad, Limits(false_reject=0.01))[0])
    assert "--max-false-reject 0.01 is not supported" in sentence
    assert "0 of its 20 good parts" in sentence
    assert "299 good parts" in sentence
    [sentence] = unsupported(choose_threshold(good, bad[:0], Limits(escape=0.05))[0])
    assert "it has no bad part" in sentence
    assert "59 bad parts" in sentence
    mixed = np.tile(np.arange(50.0), 4)
    [sentence] = unsupported(choose_threshold(mixed, mixed, Limits(0.01, 0.05))[0])
    assert "the model must tell good from bad better" in sentence
    assert unsupported(choose_threshold(np.arange(400.0), bad, Limits(false_reject=0.01))[0]) == ()


def test_good_images_enough_to_count_need_no_fit_and_use_what_they_are_allowed() -> None:
    good = np.random.default_rng(0).normal(0, 1, 500)
    chosen, calibration = choose_threshold(good, np.array([]), Limits(false_reject=0.05))
    assert chosen.false_reject is not None
    assert chosen.false_reject.supported
    assert (good >= calibration.threshold).sum() == allowed(0.05, 500)


def test_good_images_too_few_to_count_are_extended_by_a_fit_as_far_as_it_reaches() -> None:
    good = np.random.default_rng(1).normal(0, 1, 150)
    near, far = Limits(false_reject=0.005), Limits(false_reject=0.001)
    chosen, calibration = choose_threshold(good, np.array([]), near)
    assert chosen.false_reject is not None
    assert "extreme-value fit" in chosen.method
    assert chosen.false_reject.supported
    assert chosen.false_reject.upper_bound == 0.005
    assert stats.norm.isf(0.005) < calibration.threshold < 2.5 * stats.norm.isf(0.005)
    chosen, further = choose_threshold(good, np.array([]), far)
    assert chosen.false_reject is not None
    assert further.threshold > calibration.threshold
    assert not chosen.false_reject.supported
    assert chosen.false_reject.images_needed == fit_needs(0.001) == 300
    assert chosen.false_reject.upper_bound == pytest.approx(exact(0, 150))


def test_a_handful_of_good_images_gets_the_default_limit_and_no_claim() -> None:
    good = np.random.default_rng(1).normal(0, 1, FEWEST_PARTS - 1)
    chosen, calibration = choose_threshold(good, np.array([]), Limits(false_reject=0.01))
    assert chosen.false_reject is not None
    assert calibration.threshold == choose_threshold(good, np.array([]))[1].threshold
    assert not chosen.false_reject.supported
    assert chosen.false_reject.images_needed == FEWEST_PARTS
    assert "too few for a fit" in chosen.method


def test_a_tail_that_is_none_is_not_trusted() -> None:
    rng = np.random.default_rng(2)
    lumps = np.r_[rng.normal(0, 1, 270), rng.normal(50, 0.01, 30)]
    found = fit_tail(lumps, 0.005)
    assert found is not None
    assert not found.fits
    chosen, _ = choose_threshold(lumps, np.array([]), Limits(false_reject=0.005))
    assert chosen.false_reject is not None
    assert not chosen.false_reject.supported
    assert chosen.false_reject.images_needed == images_needed(0.005)


@pytest.mark.parametrize(
    "good", [stats.norm(), stats.gamma(2), stats.t(5)], ids=["normal", "gamma", "t"]
)
def test_the_limit_by_a_fit_holds_nine_times_in_ten_or_more(good: object) -> None:
    rng, rate = np.random.default_rng(3), 0.005
    law: stats.rv_continuous = good
    kept, medians = 0, []
    for _ in range(40):
        found = fit_tail(law.rvs(100, random_state=rng), rate)
        assert found is not None
        kept += law.sf(found.limit) <= rate
        medians.append(found.likely)
    assert kept >= 36
    assert np.median(medians) == pytest.approx(law.isf(rate), rel=0.35)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan"), LEAST_LIMIT / 2])
def test_a_limit_that_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="--max-false-reject"):
        Limits(false_reject=value)
    with pytest.raises(UsageError, match="--max-escape"):
        Limits(escape=value)
