"""A map to the defects that a verdict lists, and to the heatmap that people look at."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError
from ssn_agent.frames.layout import MAX_DEFECTS, Defect
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.calibration import calibrate
from ssn_contract.manifest import Calibration

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Smaller files than the default's in less time: of heatmaps, which are smooth, and of photographs,
in whose noise nothing longer repeats."""


def find_defects(
    raw_map: NDArray[np.float32], calibration: Calibration, region: Region, min_area_px: int
) -> tuple[tuple[Defect, ...], int]:
    """Find the regions of a raw map [H, W] at or above the map threshold, 8-connected.

    Boxes, areas and peaks are in pixels of the source image; `region` is the part of it that the
    map covers. Returns the largest ones by area, at most `MAX_DEFECTS`, and how many there are in
    all. Where no region passes, the one defect is the peak alone: box and area are 0.
    """
    above = (raw_map >= calibration.threshold).view(np.uint8)
    # Most maps are below the threshold nearly everywhere: only what is not is labelled.
    left, top, width, height = cv2.boundingRect(above)
    part = raw_map[top : top + height, left : left + width]
    boxes, labels = _components(above[top : top + height, left : left + width])
    rows, columns = raw_map.shape
    areas_px = np.rint(boxes[:, 4] * (region.width * region.height / (rows * columns)))
    passing = np.flatnonzero(areas_px >= min_area_px)
    if not passing.size:
        peak = _peak(raw_map, calibration, region, *_highest(raw_map))
        return (Defect(0, 0, 0, 0, 0, *peak),), 1
    # The largest alone are looked at: a noisy map has thousands of regions.
    largest = passing[np.argsort(-areas_px[passing], kind="stable")][:MAX_DEFECTS]
    found = []
    for i in largest:
        x, y, w, h = (int(v) for v in boxes[i, :4])
        window = np.s_[y : y + h, x : x + w]
        row, column = _highest(np.where(labels[window] == i + 1, part[window], -np.inf))
        peak = _peak(raw_map, calibration, region, top + y + row, left + x + column)
        # Whole numbers: a box that reaches the edge must not pass it by a rounding error.
        x0, y0 = (left + x) * region.width // columns, (top + y) * region.height // rows
        x1 = -(-(left + x + w) * region.width // columns)
        y1 = -(-(top + y + h) * region.height // rows)
        box = region.x + x0, region.y + y0, x1 - x0, y1 - y0
        found.append(Defect(*box, max(1, int(areas_px[i])), *peak))
    return tuple(found), int(passing.size)


def _components(above: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Boxes and areas [K, 5] of the 8-connected regions of a mask, and its labels from 1 on."""
    if not above.size:
        return np.empty((0, 5), np.int32), np.empty((0, 0), np.int32)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    return stats[1:].astype(np.int32, copy=False), labels.astype(np.int32, copy=False)


def _highest(values: NDArray[Any]) -> tuple[int, int]:
    row, column = divmod(int(values.argmax()), values.shape[1])
    return row, column


def _peak(
    raw_map: NDArray[np.float32], calibration: Calibration, region: Region, row: int, column: int
) -> tuple[int, int, float]:
    rows, columns = raw_map.shape
    x = region.x + (2 * column + 1) * region.width // (2 * columns)
    y = region.y + (2 * row + 1) * region.height // (2 * rows)
    return x, y, float(calibrate(float(raw_map[row, column]), calibration))


def heatmap(raw_map: NDArray[np.float32], calibration: Calibration) -> Pixels:
    """Return the map as 8-bit gray of its own size [H, W]: 255 times the calibrated value.

    128 is the map threshold: 0.5 falls between 127 and 128 and is rounded to the even one.
    """
    gray: Pixels = np.rint(255.0 * calibrate(raw_map, calibration)).astype(np.uint8)
    return gray


def encode_heatmap(raw_map: NDArray[np.float32], calibration: Calibration) -> bytes:
    """Return the heatmap as PNG."""
    return encode_picture(heatmap(raw_map, calibration))


def encode_picture(picture: Pixels) -> bytes:
    """Return a picture, gray [H, W] or RGB [H, W, 3], as PNG. Raises ImageError."""
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", bgr, _PNG)
    if not done:
        msg = f"a picture of {picture.shape} cannot be encoded as PNG"
        raise ImageError(msg)
    return data.tobytes()


def overlay(picture: NDArray[Any], gray: NDArray[Any]) -> Pixels:
    """Lay a heatmap, uint8 [h, w] of any size, over its BGR picture, uint8 [H, W, 3]."""
    gray = cv2.resize(gray, (picture.shape[1], picture.shape[0]))
    colour = cv2.applyColorMap(gray, cv2.COLORMAP_TURBO)
    # Weighted by itself: what the model does not look at keeps its own look.
    weight = 0.6 * gray[..., np.newaxis] / 255.0
    laid: Pixels = np.rint(picture * (1 - weight) + colour * weight).astype(np.uint8)
    return laid
