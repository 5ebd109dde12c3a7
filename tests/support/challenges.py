"""Pictures and parts known to be good and bad, and what comes of them in one camera."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.challenge_state import Standing, challenge_file, read_standing

PARTS: dict[str, Any] = {"good_parts": ["MASTER-GOOD"], "bad_parts": ["MASTER-BAD"]}


def plain() -> Pixels:
    """Return what the brightness bundle passes."""
    return np.full((64, 64), 20, np.uint8)


def spot() -> Pixels:
    """Return what it fails."""
    image = plain()
    image[8:16, 40:44] = 250
    return image


def folders(root: Path, good: Pixels | None = None, bad: Pixels | None = None) -> dict[str, Any]:
    """Write a folder of good and one of bad pictures, and return the settings that name them."""
    pictures = {"good": plain() if good is None else good, "bad": spot() if bad is None else bad}
    for name, image in pictures.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{name}.png"), image)
    return {"good_images": str(root / "good"), "bad_images": str(root / "bad")}


def standing_of(data_dir: Path, camera: str = "left") -> Standing | None:
    """Return how a camera's challenge stands, by its file."""
    return read_standing(challenge_file(data_dir, camera))
