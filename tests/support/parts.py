"""Small drawn parts: gray noise, with a bright block where there is a defect."""

import os
from pathlib import Path

import cv2
import numpy as np


def draw_parts(folder: Path, count: int, every: int = 4, seed: int = 0) -> dict[str, bool]:
    """Write `count` images; every so-manieth has a defect. Returns name -> defective."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for i in range(count):
        image = rng.integers(20, 90, (96, 128), dtype=np.uint8)
        truth[f"p{i:04d}.png"] = i % every == 0
        if i % every == 0:
            image[30:50, 60:80] = 250
        assert cv2.imwrite(str(folder / f"p{i:04d}.png"), image)
    return truth


def many_parts(folder: Path, count: int) -> Path:
    """Make a folder of so many images: a few, under many names; return it."""
    draw_parts(folder, 20)
    drawn = sorted(folder.iterdir())
    for number in range(20, count):
        os.link(drawn[number % 20], folder / f"part-{number:05d}.png")
    return folder
