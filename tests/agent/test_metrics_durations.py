"""Histograms and rates of the ledger process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_agent.metrics.durations import BOUNDS_S, RATE_S, RECENT, DurationCounter, RateCounter
from ssn_contract.metrics import Durations


def counted(seconds: list[float]) -> Durations:
    counter = DurationCounter()
    for value in seconds:
        counter.add(value)
    return counter.message()


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS_S), max_size=60))
def test_each_bucket_counts_what_took_at_most_its_bound(seconds: list[float]) -> None:
    found = counted(seconds)
    for bound, count in found.buckets.items():
        assert count == sum(value <= float(bound) for value in seconds)
    assert found.count == len(seconds)
    assert found.sum_s == pytest.approx(sum(seconds), abs=1e-5)


def test_median_and_p99_are_those_of_the_last_ones() -> None:
    assert (counted([]).median_s, counted([]).p99_s) == (None, None)
    found = counted([9.0] * 500 + [0.25] * (RECENT - 20) + [0.5] * 20)
    assert (found.median_s, found.p99_s) == (0.25, 0.5)
    assert found.count == RECENT + 500


def test_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    assert counted([-3.0]).sum_s == 0


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = RateCounter(now=100.0)
    for step in range(50):
        rate.add(100.0 + step / 10)
    assert rate.per_s(105.0) == pytest.approx(10)  # it has run for 5 s
    assert rate.per_s(104.9 + RATE_S) == pytest.approx(0.1)
    assert rate.per_s(106.0 + RATE_S) == 0


def test_a_rate_that_is_higher_than_what_is_kept_is_that_of_what_is_kept() -> None:
    rate = RateCounter(now=0.0)
    for step in range(4 * RECENT):
        rate.add(100 + step / 1000)
    assert rate.per_s(104.0) == pytest.approx(1000, rel=0.01)
