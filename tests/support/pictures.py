"""Small pictures and masks on the disk."""

import hashlib
from pathlib import Path

import cv2
import numpy as np


def draw(path: Path, seed: int | None = None, shape: tuple[int, ...] = (40, 50)) -> Path:
    """Write a picture that is different for every path (or seed)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.md5(str(path).encode()).hexdigest()[:8], 16) if seed is None else seed  # noqa: S324 -- a seed, no secret
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    return path


def draw_mask(path: Path, *, marks: bool, shape: tuple[int, int] = (40, 50)) -> Path:
    """Write a mask that marks a square, or nothing."""
    mask = np.zeros(shape, np.uint8)
    if marks:
        mask[5:15, 5:15] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask)
    return path
