"""Frames go to their own triggers or nowhere, whatever is lost, late or repeated."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ssn_agent.capture.pairing import Pairing

DEADLINE_NS = 100


class Line(RuleBasedStateMachine):
    """A line with a clock; what became of each trigger is kept beside what the rules say."""

    def __init__(self) -> None:
        super().__init__()
        self.pairing = Pairing()
        self.now = 0
        self.came: dict[int, int] = {}
        self.fate: dict[int, str] = {}

    @property
    def waiting(self) -> list[int]:
        return [number for number in self.came if number not in self.fate]

    def close_overdue(self) -> None:
        overdue = self.pairing.expire(self.now)
        late = [n for n in self.waiting if self.now > self.came[n] + DEADLINE_NS]
        assert late == ([] if overdue is None else [overdue])
        for number in late:
            self.fate[number] = "late"

    @rule(ns=st.integers(1, 2 * DEADLINE_NS))
    def time_passes(self, ns: int) -> None:
        self.now += ns

    @rule()
    def the_clock_is_looked_at(self) -> None:
        self.close_overdue()

    @rule()
    def a_trigger_comes(self) -> None:
        self.close_overdue()
        number = len(self.came) + 1
        is_free = not self.waiting
        self.came[number] = self.now
        assert self.pairing.trigger(number, self.now + DEADLINE_NS) is is_free
        if not is_free:
            self.fate[number] = "overrun"

    @precondition(lambda self: self.came)
    @rule(data=st.data(), looked=st.booleans())
    def a_frame_comes(self, data: st.DataObject, *, looked: bool) -> None:
        """Of any trigger so far: in time, late, of one that was overrun, or once more."""
        if looked:
            self.close_overdue()
        number = data.draw(st.integers(1, len(self.came)))
        in_time = self.now <= self.came[number] + DEADLINE_NS
        belongs = number in self.waiting and in_time
        assert self.pairing.frame(number, self.now) is belongs
        if belongs:
            self.fate[number] = "paired"

    @invariant()
    def at_most_one_waits_and_every_other_one_has_its_one_fate(self) -> None:
        assert len(self.waiting) <= 1
        assert self.pairing.waiting == (self.waiting[0] if self.waiting else None)


Line.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyOrderOfTriggersAndFrames = Line.TestCase


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_frame_that_is_lost_costs_its_own_part_alone(lost: list[bool]) -> None:
    """Triggers a deadline apart: no later frame is taken for the one that never came."""
    pairing = Pairing()
    for number, is_lost in enumerate(lost):
        now = number * (DEADLINE_NS + 1)
        overdue = pairing.expire(now)
        assert overdue == (number - 1 if number and lost[number - 1] else None)
        assert pairing.trigger(number, now + DEADLINE_NS)
        if not is_lost:
            assert pairing.frame(number, now + 1)
