"""The times of a stream's frames: true over stalls and drift, and the reading's for a bad clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssn_agent.capture.drivers.stream_time import BACKLOG_NS, LATE_NS, RISE, WINDOW_NS, StreamTime

MS = 1_000_000
S = 1_000_000_000
READ_NS = MS
"""To read a frame that is there."""
JITTER_NS = 8 * MS


@dataclass
class Stream:
    """A camera with a clock of its own, and what its frames meet on their way."""

    fps: float = 25.0
    rate: float = 1.0
    """Of the camera's clock, by the host's."""
    first_stamp: int = 0
    stalls: dict[int, int] = field(default_factory=dict)
    """What nothing comes through, by the host's clock: from when on, and for how long."""
    jitter: tuple[int, ...] = (0,)
    """Delays, in turn."""

    def frames(self, seconds: float) -> Iterator[tuple[int, int, int]]:
        """Yield when each frame came to be, its stamp, and when it was read."""
        read = 0
        for number in range(int(seconds * self.fps)):
            taken = int(number * S / self.fps)
            comes = taken + self.jitter[number % len(self.jitter)]
            for begins, lasts in self.stalls.items():
                if begins <= comes < begins + lasts:
                    comes = begins + lasts
            read = max(comes, read + READ_NS)
            yield taken, self.first_stamp + int(taken * self.rate), read


jitters = st.lists(st.integers(0, JITTER_NS), min_size=1, max_size=7).map(lambda d: (*d, 0))
rates = st.floats(0.998, 1.002)
few = settings(max_examples=30, deadline=None)


@few
@given(
    fps=st.sampled_from([5.0, 25.0, 60.0]),
    rate=rates,
    first_stamp=st.integers(0, 10**15),
    stall=st.integers(0, 3 * S),
    jitter=jitters,
)
def test_after_a_stall_each_frame_of_the_backlog_has_its_own_time(
    fps: float, rate: float, first_stamp: int, stall: int, jitter: tuple[int, ...]
) -> None:
    stream = Stream(fps, rate, first_stamp, {8 * S: stall}, jitter)
    clock = StreamTime()
    for taken, stamp, read in stream.frames(16):
        age = clock.age(stamp, read)
        if read < 8 * S - S / fps:
            continue
        assert clock.is_believed
        assert age is not None
        # What the clocks drift apart, what the envelope rises, and what the way always takes.
        tolerance = JITTER_NS + int((RISE + 0.004) * (stall + 2 * S)) + READ_NS
        assert abs((read - age) - taken) <= tolerance


@few
@given(rate=rates, jitter=jitters)
def test_times_stay_true_while_the_clocks_drift_apart_for_an_hour(
    rate: float, jitter: tuple[int, ...]
) -> None:
    stream = Stream(fps=0.5, rate=rate, jitter=jitter)
    clock = StreamTime()
    for taken, stamp, read in stream.frames(3600):
        age = clock.age(stamp, read)
        if read > 60 * S and age is not None:
            # It may have been two windows since the envelope rose.
            assert abs((read - age) - taken) <= JITTER_NS + READ_NS + 0.002 * 2 * WINDOW_NS
    assert not clock.falls_behind


@given(
    st.lists(
        st.tuples(st.integers(-(10**16), 10**16), st.integers(0, 5 * S)), min_size=1, max_size=60
    )
)
def test_whatever_the_stamps_say_no_frame_is_from_the_future(frames: list[tuple[int, int]]) -> None:
    clock = StreamTime()
    read = 0
    for stamp, later in frames:
        read += later
        age = clock.age(stamp, read)
        assert age is None or age >= 0


@few
@given(
    rate=st.one_of(st.just(0.0), st.floats(0.1, 0.95), st.floats(1.05, 3.0)),
    fps=st.sampled_from([5.0, 25.0]),
    jitter=jitters,
)
@example(rate=0.0, fps=25.0, jitter=(0,))
def test_a_clock_that_goes_wrong_or_stands_still_is_never_believed(
    rate: float, fps: float, jitter: tuple[int, ...]
) -> None:
    clock = StreamTime()
    for _, stamp, read in Stream(fps, rate, jitter=jitter).frames(30):
        age = clock.age(stamp, read)
        assert not clock.is_believed
        assert age == 0 or (age is None and read < 2 * BACKLOG_NS)


def test_what_waited_when_a_stream_was_opened_has_no_age() -> None:
    clock = StreamTime()
    backlog = [clock.age(number * 40 * MS, number * READ_NS) for number in range(25)]
    assert backlog == [None] * 25
    assert clock.age(25 * 40 * MS, 24 * READ_NS + 40 * MS) == 0


def test_a_clock_that_goes_back_is_believed_anew_after_it_has_shown_itself() -> None:
    clock = StreamTime()
    for _, stamp, read in Stream(first_stamp=3600 * S).frames(6):
        clock.age(stamp, read)
    believed = [clock.is_believed]
    for _, stamp, read in Stream().frames(6):
        assert clock.age(stamp, read + 6 * S) == 0
        believed.append(clock.is_believed)
    assert believed[:2] == [True, False]
    assert believed[-1]
    assert sum(a != b for a, b in pairwise(believed)) == 2


def test_a_clock_that_jumps_ahead_and_goes_on_makes_no_frame_old() -> None:
    clock = StreamTime()
    for number, (_, stamp, read) in enumerate(Stream().frames(12)):
        jumped = stamp + (900 * S if number >= 200 else 0)
        age = clock.age(jumped, read)
        assert age is None or age <= READ_NS


def test_a_stream_that_does_not_catch_up_is_told_and_one_that_does_is_not() -> None:
    slow = StreamTime()
    fell_behind_at = None
    for taken, stamp, read in Stream().frames(40):
        behind = max(0, taken - 10 * S) // 2  # comes at half of its rate
        slow.age(stamp, read + behind)
        if slow.falls_behind:
            fell_behind_at = read + behind
            break
    assert fell_behind_at is not None
    assert fell_behind_at - 10 * S < 10 * WINDOW_NS
    well = StreamTime()
    for _, stamp, read in Stream(stalls={10 * S: 5 * S}).frames(40):
        age = well.age(stamp, read)
        assert age is None or age < 5 * S + LATE_NS
        assert not well.falls_behind
