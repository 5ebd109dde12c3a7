"""A contact sheet: what failed, where the model looked, and some of what passed."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.regions import overlay
from ssn_contract.messages import Verdict, VerdictKind

Picture = NDArray[np.uint8]
TILE = (240, 320)
CAPTION = 24
COLUMNS = 4
_COLOURS = {
    VerdictKind.PASS: (80, 160, 60),
    VerdictKind.FAIL: (50, 50, 210),
    VerdictKind.INVALID: (60, 160, 220),
}


def tile(image: Pixels, verdict: Verdict, heatmap: bytes | None, caption: str) -> Picture:
    """Return a part as a captioned BGR tile, with heatmap and defect boxes where there are any."""
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
    if heatmap is not None:
        gray = cv2.imdecode(np.frombuffer(heatmap, np.uint8), cv2.IMREAD_GRAYSCALE)
        if gray is None:
            msg = f"the heatmap of {verdict.camera} {verdict.sequence} does not decode"
            raise ImageError(msg)
        canvas = overlay(canvas, gray)
    for d in verdict.defects:
        if d.x is not None and d.y is not None and d.width is not None and d.height is not None:
            corner = (d.x + d.width, d.y + d.height)
            cv2.rectangle(canvas, (d.x, d.y), corner, (255, 255, 255), 2)
    small = cv2.resize(canvas, (TILE[1], TILE[0]), interpolation=cv2.INTER_AREA)
    strip = np.full((CAPTION, TILE[1], 3), _COLOURS[verdict.verdict], np.uint8)
    cv2.putText(
        strip, caption, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
    )
    return np.vstack([strip, small]).astype(np.uint8)


def write_sheet(path: Path, tiles: Sequence[Picture]) -> None:
    """Write tiles as one PNG, row by row. Raises OSError, ImageError."""
    blank = np.full((TILE[0] + CAPTION, TILE[1], 3), 32, np.uint8)
    padded = [*tiles, *[blank] * (-len(tiles) % COLUMNS)]
    rows = [np.hstack(padded[i : i + COLUMNS]) for i in range(0, len(padded), COLUMNS)]
    done, data = cv2.imencode(".png", np.vstack(rows))
    if not done:
        msg = f"{path}: the contact sheet cannot be encoded"
        raise ImageError(msg)
    write_atomically(path, data.tobytes())
