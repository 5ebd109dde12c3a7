"""The part of a frame that is judged, as the model sees it: gray or RGB."""

import cv2
import numpy as np

from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels

_BAYER_TO_RGB = {
    PixelFormat.BayerGR8: cv2.COLOR_BayerGRBG2RGB,
    PixelFormat.BayerRG8: cv2.COLOR_BayerRGGB2RGB,
    PixelFormat.BayerGB8: cv2.COLOR_BayerGBRG2RGB,
    PixelFormat.BayerBG8: cv2.COLOR_BayerBGGR2RGB,
}
_TO_RGB = {
    PixelFormat.BGR8: cv2.COLOR_BGR2RGB,
    PixelFormat.RGBa8: cv2.COLOR_RGBA2RGB,
    PixelFormat.BGRa8: cv2.COLOR_BGRA2RGB,
}
_MARGIN_PX = 2
"""A pixel's colour is made from what is within this; even, as the pattern is."""
MIN_BAYER_PX = 4


def judged_region(roi: Region | None, height: int, width: int) -> Region:
    """Return the part of the image that is judged. Raises ImageError where it does not fit."""
    if roi is None:
        return Region(x=0, y=0, width=width, height=height)
    if roi.x + roi.width > width or roi.y + roi.height > height:
        msg = (
            f"the region of interest {roi.width} x {roi.height} at ({roi.x}, {roi.y}) does not fit "
            f"into a frame of {width} x {height}; change cameras.NAME.roi"
        )
        raise ImageError(msg)
    return roi


def cropped(frame: Pixels, pixel_format: PixelFormat, region: Region) -> Pixels:
    """Return a region of a frame as gray [h, w] or RGB [h, w, 3].

    A view, without a copy, of gray and RGB. Of another format the region alone is turned into RGB;
    of a Bayer pattern [H, W] with the very values that turning the whole frame would give. Raises
    ImageError where a pattern is too small to tell colours.
    """
    rows = slice(region.y, region.y + region.height)
    columns = slice(region.x, region.x + region.width)
    if pixel_format in _TO_RGB:
        return cv2.cvtColor(frame[rows, columns], _TO_RGB[pixel_format]).astype(
            np.uint8, copy=False
        )
    if not pixel_format.is_bayer:
        return frame[rows, columns]
    if min(frame.shape) < MIN_BAYER_PX:
        height, width = frame.shape
        raise ImageError(f"a Bayer pattern of {width} x {height}; it begins at {MIN_BAYER_PX}")
    # From an even row and column on: there the pattern begins as the frame's does.
    top, left = (max(0, start - _MARGIN_PX) // 2 * 2 for start in (region.y, region.x))
    around = frame[top : rows.stop + _MARGIN_PX, left : columns.stop + _MARGIN_PX]
    colours = cv2.cvtColor(around, _BAYER_TO_RGB[pixel_format])
    y, x = region.y - top, region.x - left
    return colours[y : y + region.height, x : x + region.width].astype(np.uint8, copy=False)
