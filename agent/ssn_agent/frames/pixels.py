"""Image bytes to pixels, and pixels to the network's input. The trainer uses the very same code."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError

Pixels = NDArray[np.uint8]
"""uint8, [H, W] gray or [H, W, 3] RGB."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64 * 10**6


def decode_image(data: bytes, name: str) -> Pixels:
    """Decode an image file's bytes into gray [H, W] or RGB [H, W, 3] uint8, as the file has it.

    Raises ImageError, naming `name`, where the bytes are no image or the image is too large.
    """
    if len(data) > MAX_FILE_BYTES:
        msg = f"{name}: {len(data)} bytes; images up to {MAX_FILE_BYTES} bytes are taken"
        raise ImageError(msg)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        msg = f"{name}: not a readable image ({error.err or 'OpenCV refuses it'}); replace the file"
        raise ImageError(msg) from error
    if pixels is None:
        msg = f"{name}: not a readable image (truncated, or not an image file); replace the file"
        raise ImageError(msg)
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS:
        msg = f"{name}: {width} x {height} pixels; up to {MAX_PIXELS} are taken"
        raise ImageError(msg)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def read_image(path: Path) -> Pixels:
    """Read an image file; see `decode_image`. Raises ImageError, also where it cannot be opened."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"{path}: larger than the {MAX_FILE_BYTES} bytes that are taken"
            raise ImageError(msg)
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        raise ImageError(msg) from error
    return decode_image(data, str(path))


def to_network_input(image: Pixels, height: int, width: int) -> Pixels:
    """Resize to RGB [height, width, 3] uint8: by area when shrinking, bilinear when enlarging."""
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[Any] = image
    if image.shape[:2] != (height, width):
        resized = cv2.resize(image, (width, height), interpolation=interpolation)
    if resized.ndim == 2:
        resized = cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(resized, dtype=np.uint8)
