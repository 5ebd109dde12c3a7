"""What lies in a device's buffer, to the pixels of a frame."""

import numpy as np

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels

MOST = 16
"""Buffers that a driver has filled while nobody fetches: half a second at 30 frames/s."""
LEAST = 4
SHARE_BYTES = 256 * 2**20
"""Of the capture process' memory (`memory.capture_mib`), for the buffers of large frames."""


def count_for(size: int) -> int:
    """Return how many buffers of so many bytes to have filled; 0: the size is not known."""
    return max(LEAST, min(MOST, SHARE_BYTES // max(1, size)))


def picture(
    data: bytes | memoryview,
    pixel_format: PixelFormat,
    width: int,
    height: int,
    *,
    padding: int = 0,
    offset: int = 0,
) -> Pixels:
    """Copy a picture out of a buffer, [H, W] or [H, W, C].

    `offset` is where it begins in `data`, `padding` what follows each row's pixels, in bytes; the
    last row may end without. Raises ImageError where the buffer is too short for it.
    """
    channels = pixel_format.channels
    row = width * channels
    stride = row + padding
    end = offset + stride * (height - 1) + row
    if min(width, height) < 1 or padding < 0 or len(data) < end:
        msg = f"a buffer of {len(data)} bytes, said to hold {width} x {height} {pixel_format.name}"
        raise ImageError(msg)
    # The buffer's rows as they lie, [H, W] or [H, W, C].
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (stride, channels)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, 1)
    lying: Pixels = np.ndarray(shape, np.uint8, data, offset, strides)
    pixels: Pixels = lying.copy()
    return pixels
