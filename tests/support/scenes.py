"""A fixed view as a fixed camera sees it, for checks of pictures: the same things, other noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.pixels import Pixels

SIDE = 128


def scene(seed: int, *, right: float = 0.0, side: int = SIDE) -> Pixels:
    """Return a picture of the scene, gray levels of 20 to 100, [side, side].

    The camera looks so many of its sides further to the right; `seed` makes light and noise.
    """
    rng = np.random.default_rng(seed)
    left = round(SIDE + right * SIDE)
    view = _WORLD[:, left : left + SIDE]
    seen = view * rng.uniform(0.95, 1.05) + rng.normal(0, 1.5, view.shape)
    return cv2.resize(np.clip(seen, 0, 255).astype(np.uint8), (side, side)).astype(np.uint8)


def _world() -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((SIDE, 3 * SIDE)).astype(np.float32)
    things = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.4), np.float32)
    return np.asarray(np.clip(60 + 20 * things / things.std(), 20, 95), np.float32)


_WORLD = _world()
GOOD = [scene(seed) for seed in range(1, 31)]
"""Good training images."""


def with_gain(picture: Pixels, gain: float) -> Pixels:
    """Return the picture in other light."""
    levels: Pixels = np.clip(picture.astype(np.float32) * gain, 0, 255).astype(np.uint8)
    return levels


def blurred(picture: Pixels, sigma_px: float) -> Pixels:
    """Return the picture out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), sigma_px).astype(np.uint8)
