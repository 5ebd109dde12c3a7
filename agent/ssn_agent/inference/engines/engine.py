"""What runs a graph: one interface, and the checks that hold for every engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import EngineError

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Raw scores [N] and raw maps [N, H, W]."""


@dataclass(frozen=True)
class Port:
    """An input or output, as its runtime describes it."""

    name: str
    type: str
    """By numpy's name, such as `uint8`."""
    shape: tuple[int | None, ...]
    """None: of any length."""


def in_one_line(error: Exception) -> str:
    """Return a runtime's message without its line breaks: ours are one line each."""
    return " ".join(str(error).split())


class Engine(ABC):
    """A loaded graph: uint8 RGB [N, H, W, 3] in; raw scores [N] and raw maps [N, H, W] out.

    A subclass loads the graph in its runtime and translates that runtime's errors.
    """

    name: str
    """`engine/precision`, as verdicts name it."""
    max_batch = 1
    """As many images as pay at once: one, where a batch is no faster than its images."""

    def __init__(
        self, name: str, height: int, width: int, inputs: Sequence[Port], outputs: Sequence[Port]
    ) -> None:
        """Check what the loaded graph takes and gives. Raises EngineError where it does not fit."""
        self.name = name
        self._size = height, width, 3
        took = [(port.name, port.type, port.shape) for port in inputs]
        gave = [port.name for port in outputs]
        if took != [("image", "uint8", (None, *self._size))] or gave != ["score", "map"]:
            msg = (
                f"the model takes {took} and gives {gave}; expected one uint8 input `image` "
                f"[N, {height}, {width}, 3], and `score` and `map`; pack it anew"
            )
            raise EngineError(msg)

    def run(self, inputs: NDArray[np.uint8]) -> Answer:
        """Score a batch. Raises EngineError where engine or batch are at fault.

        An answer of another shape, or with a value that is no number, is an engine's fault.
        """
        if inputs.dtype != np.uint8 or inputs.shape[1:] != self._size:
            height, width, _ = self._size
            msg = (
                f"{self.name}: got a batch of {len(inputs)} as {inputs.dtype} {inputs.shape}; "
                f"the model takes uint8 (N, {height}, {width}, 3)"
            )
            raise EngineError(msg)
        scores, maps = self._run(inputs)
        wanted = (len(inputs),), inputs.shape[:3]
        if (scores.shape, maps.shape) != wanted:
            msg = (
                f"{self.name}: the model answers with shapes {scores.shape} and {maps.shape}; "
                f"expected {wanted[0]} and {wanted[1]}; pack it anew"
            )
            raise EngineError(msg)
        if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
            msg = (
                f"{self.name}: the model answered with NaN or infinity; the bundle is unusable on "
                "this engine"
            )
            raise EngineError(msg)
        return scores, maps

    @abstractmethod
    def _run(self, inputs: NDArray[np.uint8]) -> Answer:
        """Run a batch of the right size and type. The answer is the caller's to keep."""
