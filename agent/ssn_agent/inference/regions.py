"""A map to the defects that a verdict lists, and to the heatmap that people look at."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError
from ssn_agent.frames.layout import MAX_DEFECTS, Defect
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.calibration import calibrate
from ssn_agent.settings import Region
from ssn_contract.manifest import Calibration


def find_defects(
    raw_map: NDArray[np.float32], calibration: Calibration, region: Region, min_area_px: int
) -> tuple[tuple[Defect, ...], int]:
    """Find the regions of a raw map [H, W] at or above the map threshold, 8-connected.

    Boxes, areas and peaks are in pixels of the source image; `region` is the part of it that the
    map covers. Returns the largest ones by area, at most `MAX_DEFECTS`, and how many there are in
    all. Where no region passes, the one defect is the peak alone: box and area are 0.
    """
    above = (raw_map >= calibration.threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    rows, columns = raw_map.shape
    source_px = region.width * region.height / (rows * columns)
    found = []
    for i in range(1, count):
        left, top, width, height, area = (int(v) for v in stats[i])
        area_px = round(area * source_px)
        if area_px < min_area_px:
            continue
        window = np.s_[top : top + height, left : left + width]
        inside = np.where(labels[window] == i, raw_map[window], -np.inf)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        # Whole numbers: a box that reaches the edge must not pass it by a rounding error.
        x0, y0 = left * region.width // columns, top * region.height // rows
        x1 = -(-(left + width) * region.width // columns)
        y1 = -(-(top + height) * region.height // rows)
        peak = _peak(raw_map, calibration, region, top + int(row), left + int(column))
        box = region.x + x0, region.y + y0, x1 - x0, y1 - y0
        found.append(Defect(*box, max(1, area_px), *peak))
    if not found:
        row, column = np.unravel_index(int(raw_map.argmax()), raw_map.shape)
        found = [Defect(0, 0, 0, 0, 0, *_peak(raw_map, calibration, region, int(row), int(column)))]
    found.sort(key=lambda defect: defect.area_px, reverse=True)
    return tuple(found[:MAX_DEFECTS]), len(found)


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
    gray = heatmap(raw_map, calibration)
    done, data = cv2.imencode(".png", gray, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        msg = f"a heatmap of {gray.shape} cannot be encoded as PNG"
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
