"""How often each fault is made, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """One of the two sizes of a run, or a smaller one for a try."""

    name: str
    kills: int
    """Of each process."""
    hangs: int
    """Of each process."""
    outages: int
    """Of the broker, of each kind."""
    away_s: float
    """The broker, each time."""
    disk_s: float
    """The disk."""
    clock_s: float
    """The clock, in each of the two directions."""
    verdicts: int
    """Synthetic ones."""
    load_s: float
    """Each load."""


CHAOS = Counts("chaos", 10, 3, 2, 15.0, 10.0, 5.0, 100_000, 20.0)
SOAK = Counts("soak", 50, 10, 20, 60.0, 60.0, 30.0, 1_000_000, 120.0)
SIZES = {size.name: size for size in (CHAOS, SOAK)}
