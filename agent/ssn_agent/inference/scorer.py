"""The one scorer: a bundle and an image to a score and a map.

The agent's inference process and the trainer's evaluation call this same code.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import BundleError, EngineError, ImageError
from ssn_agent.frames.pixels import Pixels, decode_image, to_network_input
from ssn_agent.inference.calibration import calibrate
from ssn_agent.inference.engines.available import REFERENCE, Options, start_engine
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Vector


@dataclass(frozen=True)
class Scored:
    """What the model made of one image."""

    score: float
    """Calibrated, in [0, 1]; FAIL from 0.5 on."""
    raw: float
    map: NDArray[np.float32]
    """Raw anomaly map, [H, W] at the network's input size, smoothed."""


class Scorer:
    """A bundle on an engine, ready to score."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        *,
        engine: EngineName = REFERENCE,
        cache: Path | None = None,
    ) -> None:
        """Start an engine; `threads` and `cache` are its `Options`.

        Raises BundleError, and EngineError where bundle or machine have no such engine.
        """
        self.bundle = bundle
        self.input = bundle.manifest.input
        name = engine.partition("/")[2]
        try:
            self.precision = bundle.manifest.precision(name)
        except KeyError:
            msg = f"{bundle.path}: has no {name}, so {engine} cannot serve it; set another engine"
            raise EngineError(msg) from None
        self.engine = start_engine(
            engine,
            bundle.read(self.precision.file),
            self.input.height,
            self.input.width,
            Options(threads, cache),
        )

    def score(self, image: Pixels) -> Scored:
        """Score one image: uint8, [H, W] gray or [H, W, 3] RGB, of any size.

        Raises ImageError where it is another, and EngineError.
        """
        batch = to_network_input(image, self.input.height, self.input.width)[np.newaxis]
        return self.score_batch(batch)[0]

    def score_batch(self, inputs: NDArray[np.uint8]) -> list[Scored]:
        """Score images of the network's size, [N, H, W, 3]."""
        raw, maps = self.score_inputs(inputs)
        return [
            Scored(calibrate(float(value), self.precision.score), float(value), map_)
            for value, map_ in zip(raw, maps, strict=True)
        ]

    def score_inputs(
        self, inputs: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score images of the network's size, [N, H, W, 3]: raw scores [N], raw maps [N, H, W]."""
        return self.engine.run(inputs)

    def check_vectors(self, pause: float = 0.0) -> float:
        """Replay the bundle's vectors; return the largest difference of a score.

        Each is followed by a pause of so many times its length, for what goes on beside it.
        Raises EngineError where this engine does not reproduce them within the bundle's tolerance,
        BundleError where a vector cannot be read.
        """
        tolerance = self.precision.tolerance
        worst = 0.0
        for vector in self.bundle.manifest.vectors:
            begun = time.monotonic()
            scored, expected = self._replay(vector)
            time.sleep(pause * (time.monotonic() - begun))
            by_score = abs(scored.raw - vector.score)
            by_map = float(np.abs(scored.map - expected).max())
            if not (by_score <= tolerance.score and by_map <= tolerance.map):  # NaN is no match
                msg = (
                    f"{self.bundle.path}: {self.engine.name} does not reproduce {vector.image}: "
                    f"score differs by {by_score:.2g} (allowed {tolerance.score:.2g}), map by "
                    f"{by_map:.2g} (allowed {tolerance.map:.2g}); do not serve it here"
                )
                raise EngineError(msg)
            worst = max(worst, by_score)
        return worst

    def _replay(self, vector: Vector) -> tuple[Scored, NDArray[np.float32]]:
        data = self.bundle.read(vector.map)
        shape = (self.input.height, self.input.width)
        if len(data) != 4 * shape[0] * shape[1]:
            msg = f"{self.bundle.path}: {vector.map} has not the size of a map; pack it anew"
            raise BundleError(msg)
        try:
            image = decode_image(self.bundle.read(vector.image), vector.image)
        except ImageError as error:
            msg = f"{self.bundle.path}: vector {error}"
            raise BundleError(msg) from error
        # flat float32 [H * W] -> [H, W]
        return self.score(image), np.frombuffer(data, "<f4").reshape(shape)
