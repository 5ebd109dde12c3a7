"""How often each fault is made, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """A size of a run."""

    name: str
    kills: int
    freezes: int
    loss_s: float
    """At each of the two shares of lost packets."""
    failed: int
    """Buffers that a camera is made to fail."""
    wrap_frames: int
    """After so many frames the ids must have begun again; 0: no time for it."""
    rate_s: float
    """At the counterpart's full rate."""
    triggers: int
    frames: int
    """For the memory."""
    reconnects: int
    """Among them."""


TRY = Counts("try", 1, 1, 2.0, 5, 0, 2.0, 20, 100, 2)
SOAK = Counts("soak", 10, 10, 60.0, 50, 66_000, 60.0, 1000, 20_000, 50)
SIZES = {size.name: size for size in (TRY, SOAK)}
