"""When a camera that failed is opened again, and when that is news. Rules alone."""

WAITS_S = (0.5, 1.0, 2.0)
"""Before it is opened again; the last one repeats: a camera that answers again is back in seconds.
"""


class Reopening:
    """The waits of one camera: longer from fault to fault, until it works again."""

    def __init__(self) -> None:
        self.faults = 0
        """Since it last worked."""
        self._known: str | None = None

    def next_wait_s(self) -> float:
        """Return how long to wait after a further fault."""
        self.faults += 1
        return WAITS_S[min(self.faults, len(WAITS_S)) - 1]

    def is_news(self, problem: str) -> bool:
        """Say whether a fault is another one than the last: the same one is logged once."""
        known, self._known = self._known, problem
        return problem != known

    def is_well(self) -> None:
        """Note that it works."""
        self.faults = 0
        self._known = None
