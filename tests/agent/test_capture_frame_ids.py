"""What gaps in frame ids say: exactly what is missing, across every wrap-around, and no more."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ssn_agent.capture.camera import FrameIds
from ssn_agent.capture.frame_ids import MAX_MISSED, missed

GIGE = FrameIds(first=1, last=65535)
WIDE = FrameIds()
ranges = st.builds(
    FrameIds, st.integers(0, 1), st.integers(2 * MAX_MISSED + 2, 2**16) | st.just(2**63 - 1)
)


def after(frame_id: int, steps: int, ids: FrameIds) -> int:
    """Return the id so many frames later."""
    return ids.first + (frame_id - ids.first + steps) % (ids.last - ids.first + 1)


@given(ranges, st.data(), st.integers(0, MAX_MISSED))
def test_what_is_missing_is_counted_wherever_the_ids_wrap(
    ids: FrameIds, data: st.DataObject, lost: int
) -> None:
    near_the_end = st.integers(ids.last - MAX_MISSED, ids.last)
    previous = data.draw(near_the_end | st.integers(ids.first, ids.last))
    assert missed(previous, after(previous, lost + 1, ids), ids) == lost


@given(ranges, st.data())
def test_ids_that_do_not_count_on_are_another_count(ids: FrameIds, data: st.DataObject) -> None:
    previous = data.draw(st.integers(ids.first, ids.last))
    current = data.draw(st.integers(ids.first, ids.last))
    span = ids.last - ids.first + 1
    assume((current - previous) % span > MAX_MISSED + 1)
    assert missed(previous, current, ids) is None


@given(ranges, st.data())
def test_an_id_that_comes_twice_is_the_same_frame(ids: FrameIds, data: st.DataObject) -> None:
    number = data.draw(st.integers(ids.first, ids.last))
    assert missed(number, number, ids) == -1


@pytest.mark.parametrize(
    ("previous", "current", "lost"),
    [(65535, 1, 0), (65535, 2, 1), (65534, 1, 1), (65530, 3, 7), (70000, 70001, 0)],
)
def test_recorded_ids_of_gige_vision(previous: int, current: int, lost: int) -> None:
    assert missed(previous, current, GIGE) == lost


def test_a_device_that_counts_wider_than_16_bits_never_wraps_at_them() -> None:
    assert missed(70000, 1, GIGE) is None
