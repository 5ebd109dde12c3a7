"""A drawn production line: turned steel flanges on a conveyor, some of them with a defect.

Everything follows from one integer. The defect has a random stream of its own, so the same seed
without a defect gives the same part, unharmed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_agent.demo.defects import PAINTERS
from ssn_agent.demo.scene import (
    HOLES,
    disc_cover,
    drill,
    engrave,
    expose,
    lay_part,
    sprinkle_dust,
    stream,
)
from ssn_agent.errors import UsageError
from ssn_agent.frames.pixels import Pixels

DEFECTS: tuple[str, ...] = (*PAINTERS, "missing_hole")
"""The kinds of defect that the line draws."""

Mask = NDArray[np.bool_]

_NAMESPACES = {"train": 1, "serve": 2}
_LOOK, _DEFECT, _FATE = range(3)


@dataclass(frozen=True)
class Part:
    """One part as the camera sees it, with the truth about it."""

    image: Pixels
    """uint8, [H, W] gray."""
    mask: Mask
    """bool, [H, W]: where the defect is; empty on a good part."""
    defect: str | None
    """One of `DEFECTS`, or None on a good part."""


def draw_part(seed: int, defect: str | None, size: tuple[int, int] = (480, 640)) -> Part:
    """Draw the part of that seed, with the defect or without, [H, W] = `size`.

    The picture follows from the arguments alone. Raises UsageError for an unknown defect or a
    picture under 120 x 160.
    """
    if defect is not None and defect not in DEFECTS:
        msg = f"no defect is called {defect!r}; draw one of {', '.join(DEFECTS)}"
        raise UsageError(msg)
    if size[0] < 120 or size[1] < 160:
        msg = f"a part cannot be drawn on {size[1]} x {size[0]} pixels; take 160 x 120 or more"
        raise UsageError(msg)
    rng, defect_rng = stream(seed, _LOOK), stream(seed, _DEFECT)
    scene = lay_part(rng, size)
    missing = int(defect_rng.integers(HOLES)) if defect == "missing_hole" else None
    drill(scene, missing)
    engrave(scene, rng)
    mask = np.zeros(size, np.bool_)
    if missing is not None:
        mask = disc_cover(size, scene.holes[missing], 1.25 * scene.hole_radius) > 0.5
    elif defect is not None:
        mask = PAINTERS[defect](scene, defect_rng) > 0.2
    sprinkle_dust(scene, rng)
    return Part(image=expose(scene.canvas, scene.scale, rng), mask=mask, defect=defect)


class ProductionLine:
    """An endless line of parts; each follows from the line's seed and its number.

    "train" and "serve" lines draw from seeds that no two of them share: the namespace, the line's
    seed and the part's number are different digits of one integer.
    """

    def __init__(
        self,
        seed: int,
        defect_rate: float = 0.15,
        namespace: Literal["train", "serve"] = "serve",
        size: tuple[int, int] = (480, 640),
    ) -> None:
        if not 0 <= seed < 2**64:
            msg = f"line seed {seed}: take one from 0 to 2**64 - 1"
            raise UsageError(msg)
        if not 0 <= defect_rate <= 1:
            msg = f"defect rate {defect_rate}: take a share from 0 to 1"
            raise UsageError(msg)
        self._base = (_NAMESPACES[namespace] << 96) | (seed << 32)
        self._defect_rate = defect_rate
        self._size = size

    def part(self, n: int) -> Part:
        """Draw part number `n`, 0 to 2**32 - 1. Raises UsageError outside of that."""
        return draw_part(self._seed(n), self.defect(n), self._size)

    def defect(self, n: int) -> str | None:
        """Return the truth about part number `n` without drawing it; see `part`."""
        fate = stream(self._seed(n), _FATE)
        bad = fate.random() < self._defect_rate
        return DEFECTS[int(fate.integers(len(DEFECTS)))] if bad else None

    def _seed(self, n: int) -> int:
        if not 0 <= n < 2**32:
            msg = f"part number {n}: take one from 0 to 2**32 - 1"
            raise UsageError(msg)
        return self._base | n
