"""When a camera that failed is opened again. Rules alone."""

WAITS_S = (0.5, 1.0, 2.0)
"""Before it is opened again; the last one repeats. With what opening takes it is well below the 5 s
within which a camera that answers again is to give frames, however long it was away."""


class Reopening:
    """The waits of one camera: longer from fault to fault, until it works again."""

    def __init__(self) -> None:
        self.faults = 0
        """Since it last worked."""

    def next_wait_s(self) -> float:
        """Return how long to wait after a further fault."""
        self.faults += 1
        return WAITS_S[min(self.faults, len(WAITS_S)) - 1]

    def is_well(self) -> None:
        """Note that it works."""
        self.faults = 0
