"""The rules of a child's life: when it is replaced, why, and how soon."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ssn_agent.supervisor.children import (
    BACK_OFF_S,
    START_S,
    STEADY_S,
    ChildRule,
    Fault,
    State,
)

LIMIT = 100


def running(due_at: float, now: float = 0.0) -> ChildRule:
    """Return a child that was started and has beaten once."""
    child = ChildRule(LIMIT)
    child.started(now)
    child.promised(now, due_at, 0.0)
    return child


def test_a_child_that_never_ran_starts_at_once() -> None:
    assert ChildRule(LIMIT).is_due(0.0)


def test_a_child_that_keeps_dying_waits_longer_and_longer_up_to_a_bound() -> None:
    child = ChildRule(LIMIT)
    now = 100.0
    waits = []
    for _ in range(len(BACK_OFF_S) + 3):
        child.started(now)
        assert not child.is_due(now + STEADY_S)
        now += 1.0
        waits.append(child.gone(now))
        assert not child.is_due(now + waits[-1] - 0.001)
        now += waits[-1]
        assert child.is_due(now)
    assert waits == [*BACK_OFF_S, *[BACK_OFF_S[-1]] * 3]


def test_after_a_steady_time_a_death_is_the_first_one_again() -> None:
    child = ChildRule(LIMIT)
    for _ in range(4):
        child.started(0.0)
        child.gone(1.0)
    child.started(10.0)
    assert child.gone(10.0 + STEADY_S) == BACK_OFF_S[0]


def test_a_child_starts_until_its_first_beat_and_has_time_for_it() -> None:
    child = ChildRule(LIMIT)
    child.started(10.0)
    assert child.state is State.STARTING
    assert child.fault(10.0 + START_S, 0.0, 0) is None
    assert child.fault(10.1 + START_S, 0.0, 0) is Fault.HUNG


def test_a_child_runs_from_its_first_beat_on_until_it_breaks_a_promise() -> None:
    child = running(due_at=17.0, now=10.0)
    assert child.state is State.RUNNING
    assert child.fault(17.0, 0.0, 0) is None
    assert child.fault(17.1, 0.0, 0) is Fault.HUNG


def test_a_long_promise_is_waited_for_and_the_next_short_one_counts_again() -> None:
    child = running(due_at=120.0)
    assert child.fault(119.0, 0.0, 0) is None
    child.promised(119.0, 124.0, 0.0)
    assert child.fault(124.1, 0.0, 0) is Fault.HUNG


def test_time_in_which_the_supervisor_did_not_run_is_held_against_nobody_until_the_next_beat() -> (
    None
):
    child = running(due_at=5.0)
    child.excuse(60.0)
    child.promised(61.0, 5.0, 0.0)  # the same beat, read again
    assert child.fault(65.0, 0.0, 0) is None
    assert child.fault(65.1, 0.0, 0) is Fault.HUNG
    child.promised(66.0, 71.0, 0.0)
    assert child.fault(71.1, 0.0, 0) is Fault.HUNG


def test_time_in_which_a_child_waited_for_a_processor_is_not_held_against_it() -> None:
    child = running(due_at=5.0)
    assert child.fault(15.0, 10.0, 0) is None
    assert child.fault(15.1, 10.0, 0) is Fault.HUNG
    child.promised(16.0, 21.0, 10.0)  # what it had waited before that beat is spent
    assert child.fault(21.1, 10.0, 0) is Fault.HUNG


def test_a_child_over_its_memory_is_a_fault_and_one_at_its_bound_is_not() -> None:
    child = running(due_at=5.0)
    assert child.fault(1.0, 0.0, LIMIT) is None
    assert child.fault(1.0, 0.0, LIMIT + 1) is Fault.OVER_MEMORY


def test_a_killed_child_is_counted_once_by_its_reason_and_waits_like_a_dead_one() -> None:
    child = running(due_at=5.0)
    child.killed(6.0, Fault.HUNG)
    assert child.fault(100.0, 0.0, LIMIT + 1) is None  # its end is awaited, nothing else
    child.promised(6.1, 20.0, 0.0)  # a last beat does not bring it back
    assert (child.state, child.faults) == (State.KILLED, Counter())
    assert child.gone(7.0) == BACK_OFF_S[0]
    assert (child.state, child.faults) == (State.WAITING, Counter({Fault.HUNG: 1}))


def test_a_child_that_came_to_its_end_is_left_there() -> None:
    child = running(due_at=5.0)
    child.ended(4.0)
    assert not child.is_due(1e9)
    assert child.fault(1e9, 0.0, LIMIT + 1) is None


def test_a_replaced_child_is_unsteady_until_it_has_run_for_a_while() -> None:
    child = running(due_at=5.0)
    assert not child.is_unsteady(1.0)
    child.gone(2.0)
    assert child.is_unsteady(1000.0)
    child.started(1000.0)
    child.promised(1001.0, 2000.0, 0.0)
    assert child.is_unsteady(1000.0 + STEADY_S - 0.1)
    assert not child.is_unsteady(1000.0 + STEADY_S)


SECONDS = st.floats(0.01, 20.0)


class Life(RuleBasedStateMachine):
    """A child under the driver's steps, against what is known of it beside."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = ChildRule(LIMIT)
        self.now = self.due_at = self.queued = 0.0
        self.used = 0
        self.alive = False
        self.reasons: Counter[Fault] = Counter()

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=SECONDS)
    def nobody_runs(self, seconds: float) -> None:
        self.now += seconds
        self.due_at += seconds
        self.rule.excuse(seconds)

    @precondition(lambda self: self.alive)
    @rule(seconds=SECONDS)
    def others_have_the_processors(self, seconds: float) -> None:
        self.now += seconds
        self.due_at += seconds
        self.queued += seconds

    @precondition(lambda self: not self.alive and self.rule.is_due(self.now))
    @rule()
    def it_starts(self) -> None:
        self.rule.started(self.now)
        self.alive, self.used, self.due_at = True, 0, self.now + START_S
        self.queued = 0.0

    @precondition(lambda self: self.alive)
    @rule(seconds=SECONDS)
    def it_beats(self, seconds: float) -> None:
        self.due_at = self.now + seconds
        self.rule.promised(self.now, self.due_at, self.queued)

    @precondition(lambda self: self.alive)
    @rule()
    def it_grows(self) -> None:
        self.used = LIMIT + 1

    @precondition(lambda self: self.alive)
    @rule()
    def it_dies(self) -> None:
        self._goes(Fault.DIED)

    @precondition(lambda self: self.alive)
    @rule()
    def it_is_looked_at(self) -> None:
        expected = Fault.OVER_MEMORY if self.used > LIMIT else None
        if self.now > self.due_at:
            expected = Fault.HUNG
        found = self.rule.fault(self.now, self.queued, self.used)
        if abs(self.now - self.due_at) > 1e-6:  # on the very edge either may be
            assert found is expected
        if found is not None:
            self.rule.killed(self.now, found)
            assert not self.rule.is_due(self.now)
            self._goes(found)

    def _goes(self, reason: Fault) -> None:
        self.rule.gone(self.now)
        self.reasons[reason] += 1
        self.alive = False
        assert self.now + BACK_OFF_S[0] <= self.rule.start_at <= self.now + BACK_OFF_S[-1]

    @invariant()
    def every_replacement_has_its_reason_and_never_two_run(self) -> None:
        assert self.rule.faults == self.reasons
        assert self.alive == (self.rule.state in {State.STARTING, State.RUNNING})


test_whatever_happens_a_child_is_replaced_for_a_reason_and_never_two_run = Life.TestCase
Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
