"""Parts in a row that were not passed: more than chance explains, so that somebody has to look."""

from collections import Counter

from ssn_agent.frames.layout import Decision, Outcome


class RejectRun:
    """The newest verdicts of a camera, back to its last PASS."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()

    def add(self, decision: Decision) -> None:
        """Take the next verdict, in the order of the numbers."""
        if decision.outcome is Outcome.PASS:
            self._kinds.clear()
        elif decision.reason is None:
            self._kinds[decision.outcome.name] += 1
        else:
            self._kinds[f"{decision.outcome.name}({decision.reason.value})"] += 1

    def alarm(self, after: int) -> str | None:
        """Say what they were, where there are at least `after`; 0: never."""
        count = self._kinds.total()
        if not 0 < after <= count:
            return None
        kinds = ", ".join(f"{kind} {number}" for kind, number in self._kinds.most_common())
        return f"no PASS among the last {count} parts: {kinds}; look at parts, camera and light"
