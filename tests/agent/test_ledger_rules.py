"""Which verdict is due when: one table, read from top to bottom."""

import pytest

from ssn_agent.frames.journal import Entry
from ssn_agent.frames.layout import Captured, Decision, Outcome, Result
from ssn_agent.ledger.rules import decide, decide_after_reboot, is_late_result
from ssn_contract.messages import InvalidReason
from support.records import DEADLINE_NS, FRAME, LATE, START_UTC_NS, judged, trigger

T0 = 1_000_000_000
DEADLINE = T0 + DEADLINE_NS
LOST = Captured(InvalidReason.LOST)
UNREADABLE = Captured(InvalidReason.UNREADABLE)
PASS, FAIL = judged(Outcome.PASS), judged(Outcome.FAIL)
NO_MODEL = Result(Outcome.INVALID, InvalidReason.NO_MODEL, 10)


def entry(
    captured: Captured | None = None,
    result: Result | None = None,
    decision: Decision | None = None,
) -> Entry:
    return Entry(5, trigger(T0), captured, result, decision, committed=False)


@pytest.mark.parametrize(
    ("captured", "result", "now", "outcome", "reason"),
    [
        (None, None, T0, None, None),
        (None, None, DEADLINE, None, None),
        (None, None, DEADLINE + 1, Outcome.INVALID, InvalidReason.LATE),
        (FRAME, None, DEADLINE, None, None),
        (FRAME, None, DEADLINE + 1, Outcome.INVALID, InvalidReason.LATE),
        (FRAME, PASS, T0 + 1, Outcome.PASS, None),
        (FRAME, FAIL, DEADLINE, Outcome.FAIL, None),
        (FRAME, NO_MODEL, T0 + 1, Outcome.INVALID, InvalidReason.NO_MODEL),
        (FRAME, PASS, DEADLINE + 1, Outcome.INVALID, InvalidReason.LATE),
        (FRAME, NO_MODEL, DEADLINE + 1, Outcome.INVALID, InvalidReason.LATE),
        (LOST, None, T0, Outcome.INVALID, InvalidReason.LOST),
        (UNREADABLE, None, DEADLINE + 1, Outcome.INVALID, InvalidReason.UNREADABLE),
    ],
)
def test_the_verdict_that_is_due(
    captured: Captured | None,
    result: Result | None,
    now: int,
    outcome: Outcome | None,
    reason: InvalidReason | None,
) -> None:
    decision = decide(entry(captured, result), now, 99)
    if outcome is None:
        assert decision is None
    else:
        assert decision == Decision(outcome, reason, now, 99)


def test_a_trigger_that_was_pending_when_the_machine_went_down_is_lost_and_waited_by_utc() -> None:
    decision = decide_after_reboot(entry(FRAME), START_UTC_NS + T0 + 7)
    assert decision == Decision(Outcome.INVALID, InvalidReason.LOST, T0 + 7, START_UTC_NS + T0 + 7)


def test_a_clock_that_went_back_over_a_reboot_gives_no_negative_latency() -> None:
    assert decide_after_reboot(entry(FRAME), 1).decided_monotonic_ns == T0


@pytest.mark.parametrize(
    ("reason", "result", "late"),
    [
        (InvalidReason.LATE, PASS, True),
        (InvalidReason.LATE, FAIL, True),
        (InvalidReason.LATE, None, False),
        (InvalidReason.LATE, LATE, False),
        (InvalidReason.LOST, PASS, False),
        (None, PASS, False),
    ],
)
def test_only_a_judgement_that_came_after_the_deadline_is_a_late_result(
    reason: InvalidReason | None, result: Result | None, *, late: bool
) -> None:
    outcome = Outcome.PASS if reason is None else Outcome.INVALID
    assert is_late_result(entry(FRAME, result, Decision(outcome, reason, 1, 2))) is late


def test_an_undecided_trigger_has_no_late_result() -> None:
    assert not is_late_result(entry(FRAME, PASS))
