"""When a trigger gets its verdict, and which. Rules alone: no clock, no file, no database here.

In this order:

1. Capture noted that there is no frame to judge: INVALID with its reason.
2. The deadline has passed: INVALID(late), also where a result has come since. The line has long
   treated the part as a reject; a PASS now would contradict it.
3. Inference wrote a result: that is the verdict.
4. Otherwise the trigger is pending.
"""

from ssn_agent.frames.journal import Entry
from ssn_agent.frames.layout import Decision, Outcome
from ssn_contract.messages import InvalidReason


def decide(entry: Entry, monotonic_ns: int, utc_ns: int) -> Decision | None:
    """Return the verdict that is due now, or None while the trigger is pending."""

    def decision(outcome: Outcome, reason: InvalidReason | None) -> Decision:
        return Decision(outcome, reason, monotonic_ns, utc_ns)

    if entry.captured is not None and entry.captured.reason is not None:
        return decision(Outcome.INVALID, entry.captured.reason)
    if monotonic_ns > entry.accepted.deadline_monotonic_ns:
        return decision(Outcome.INVALID, InvalidReason.LATE)
    if entry.result is not None:
        return decision(entry.result.outcome, entry.result.reason)
    return None


def decide_after_reboot(entry: Entry, utc_ns: int) -> Decision:
    """Return the verdict of a trigger that was pending when the machine went down.

    Its monotonic times belong to another boot: the trigger's own time stands for the decision's, so
    the latency is given by UTC alone.
    """
    waited_ns = max(0, utc_ns - entry.accepted.triggered_utc_ns)
    decided = entry.accepted.triggered_monotonic_ns + waited_ns
    return Decision(Outcome.INVALID, InvalidReason.LOST, decided, utc_ns)


def is_late_result(entry: Entry) -> bool:
    """Say whether the model's answer came after the trigger was closed as late."""
    return (
        entry.decision is not None
        and entry.decision.reason is InvalidReason.LATE
        and entry.result is not None
        and entry.result.outcome is not Outcome.INVALID
    )
