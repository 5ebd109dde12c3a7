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
    if pixel_format.is_bayer and min(frame.shape) < MIN_BAYER_PX:
        height, width = frame.shape
        raise ImageError(f"a Bayer pattern of {width} x {height}; it begins at {MIN_BAYER_PX}")
    part, within = around(frame, pixel_format, region)
    if pixel_format in _TO_RGB:
        return cv2.cvtColor(part, _TO_RGB[pixel_format]).astype(np.uint8, copy=False)
    if not pixel_format.is_bayer:
        return part
    colours = cv2.cvtColor(part, _BAYER_TO_RGB[pixel_format])
    rows = slice(within.y, within.y + within.height)
    columns = slice(within.x, within.x + within.width)
    return colours[rows, columns].astype(np.uint8, copy=False)


def around(frame: Pixels, pixel_format: PixelFormat, region: Region) -> tuple[Pixels, Region]:
    """Return a view of what `cropped` looks at, and where the region lies in it.

    Cropping that part gives the very values that cropping the frame does.
    """
    margin = _MARGIN_PX if pixel_format.is_bayer else 0
    left, top = region.x, region.y
    if pixel_format.is_bayer:  # from an even row and column on: there the pattern begins
        left, top = (max(0, start - margin) // 2 * 2 for start in (left, top))
    bottom, right = region.y + region.height + margin, region.x + region.width + margin
    within = Region(x=region.x - left, y=region.y - top, width=region.width, height=region.height)
    return frame[top:bottom, left:right], within
