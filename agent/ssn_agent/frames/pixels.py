"""Image bytes to pixels, and pixels to the network's input. The trainer uses the very same code."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError
from ssn_agent.frames.image_size import size_of
from ssn_agent.frames.pixel_format import PixelFormat

Pixels = NDArray[np.uint8]
"""uint8, [H, W] gray or [H, W, 3] RGB."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_FILE_BYTES = 256 * 2**20
MAX_TRAILER_BYTES = 2**16
MAX_PIXELS = 64 * 10**6
_SAMPLE_PX = 1.25
"""How far apart bilinear samples may lie: a line of one pixel keeps 3/4 of its weight at least."""


def decode_image(data: bytes, name: str) -> Pixels:
    """Decode an image file's bytes into gray [H, W] or RGB [H, W, 3] uint8, as the file has it.

    Raises ImageError, naming `name`, where the bytes are no image, the image is too large, or its
    values are not of 8 bits: how to scale others to 8 nobody but their maker knows.
    """
    pixels = decode_values(data, name)
    if pixels.dtype != np.uint8:
        msg = (
            f"{name}: {8 * pixels.dtype.itemsize} bits a value, where 8 are taken; save it with 8 "
            "bits, scaled as what the camera on the line delivers"
        )
        raise ImageError(msg)
    return np.ascontiguousarray(pixels)


def decode_values(data: bytes, name: str) -> NDArray[Any]:
    """Decode as `decode_image`, but to values of the depth that the file has. Raises ImageError."""
    if len(data) > MAX_FILE_BYTES:
        msg = f"{name}: {len(data)} bytes; images up to {MAX_FILE_BYTES} bytes are taken"
        raise ImageError(msg)
    check_complete(data, name)
    _check_size(data, name)
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        msg = f"{name}: not a readable image ({error.err or 'OpenCV refuses it'}); replace the file"
        raise ImageError(msg) from error
    if pixels is None:
        msg = f"{name}: not a readable image (its content is damaged); replace the file"
        raise ImageError(msg)
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def check_complete(data: bytes, name: str) -> None:
    """Look, without decoding, whether a file is of a kind we take and ends where it says.

    OpenCV fills what a truncated file lacks with gray and reports nothing. Raises ImageError.
    """
    if data.startswith(b"\xff\xd8\xff"):
        # Neither marker occurs inside the compressed data; a thumbnail's end comes before its scan.
        complete = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        complete = b"IEND\xaeB`\x82" in data[-MAX_TRAILER_BYTES:]
    elif data.startswith(b"BM"):
        complete = len(data) >= _bmp_size(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    elif data.startswith((b"II*\0", b"MM\0*")):
        complete = True  # libtiff refuses a file whose directory or strips are missing
    else:
        msg = f"{name}: not an image (BMP, JPEG, PNG, TIFF and WebP are taken); replace the file"
        raise ImageError(msg)
    if not complete:
        msg = f"{name}: truncated after {len(data)} bytes; copy the file again"
        raise ImageError(msg)


def _check_size(data: bytes, name: str) -> None:
    """Look at a picture's size before memory is taken for it. Raises ImageError."""
    try:
        width, height = size_of(data)
    except ValueError as error:
        msg = f"{name}: not a readable image ({error}); replace the file"
        raise ImageError(msg) from error
    if width * height > MAX_PIXELS:
        msg = f"{name}: {width} x {height} pixels; up to {MAX_PIXELS} are taken"
        raise ImageError(msg)


def _bmp_size(data: bytes) -> int:
    """Return the bytes a BMP needs: its header's file size is often wrong where rows are plain."""
    header = data[:54].ljust(54, b"\0")
    if int.from_bytes(header[30:34], "little") not in {0, 3}:  # neither BI_RGB nor BI_BITFIELDS
        return int.from_bytes(header[2:6], "little")
    offset = int.from_bytes(header[10:14], "little")
    width = int.from_bytes(header[18:22], "little", signed=True)
    height = int.from_bytes(header[22:26], "little", signed=True)
    row_bits = width * int.from_bytes(header[28:30], "little")
    return max(54, offset + (row_bits + 31) // 32 * 4 * abs(height))


def read_image(path: Path) -> Pixels:
    """Read an image file; see `decode_image`. Raises ImageError, also where it cannot be opened."""
    return decode_image(_read_file(path), str(path))


def read_values(path: Path) -> NDArray[Any]:
    """Read an image file in its own depth; see `decode_values`. Raises ImageError likewise."""
    return decode_values(_read_file(path), str(path))


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"{path}: larger than the {MAX_FILE_BYTES} bytes that are taken"
            raise ImageError(msg)
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        raise ImageError(msg) from error


def format_of(image: Pixels) -> PixelFormat:
    """Return Mono8 for gray [H, W] and RGB8 for RGB [H, W, 3].

    Raises ImageError where an image is neither, is not of 8 bits, or has no pixels.
    """
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            return PixelFormat.Mono8
        if image.ndim == 3 and image.shape[2] == 3:
            return PixelFormat.RGB8
    msg = f"an image of {image.dtype} {image.shape}; gray and RGB of 8 bits a value are taken"
    raise ImageError(msg)


def to_network_input(image: Pixels, height: int, width: int, out: Pixels | None = None) -> Pixels:
    """Resize to RGB [height, width, 3] uint8: see `_shrunk`, and bilinear when enlarging.

    The result is written into `out` where that is given: contiguous, of this shape and type.
    Raises ImageError; see `format_of`.
    """
    format_of(image)
    made = np.empty((height, width, 3), np.uint8) if out is None else out
    # One channel is resized, not three of the same.
    into = made if image.ndim == 3 else None
    resized: NDArray[Any] = image
    if image.shape[0] >= height and image.shape[1] >= width and image.shape[:2] != (height, width):
        resized = _shrunk(image, height, width, into)
    elif image.shape[:2] != (height, width):
        resized = cv2.resize(image, (width, height), dst=into, interpolation=cv2.INTER_LINEAR)
    if resized.ndim == 2:
        cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB, dst=made)
    elif resized is not made:
        made[...] = resized
    return made


def _shrunk(image: Pixels, height: int, width: int, into: Pixels | None) -> NDArray[Any]:
    """Sample bilinearly twice as densely as asked for, and halve: means of 2 x 2.

    Samples lie at most `_SAMPLE_PX` apart, so that no pixel is passed over: a larger image is first
    halved. It is close to `INTER_AREA` and takes a fraction of its time: OpenCV has fast code for
    halves, not for ratios with a fraction (docs/performance.md). What shrinks far more along one
    axis than along the other is left to `INTER_AREA`.
    """
    shrinking: NDArray[Any] = image
    while _is_too_large(shrinking, height, width):
        half = shrinking.shape[1] // 2, shrinking.shape[0] // 2
        if half[0] < width or half[1] < height:
            return cv2.resize(shrinking, (width, height), dst=into, interpolation=cv2.INTER_AREA)
        shrinking = cv2.resize(shrinking, half, interpolation=cv2.INTER_AREA)
    dense = cv2.resize(shrinking, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(dense, (width, height), dst=into, interpolation=cv2.INTER_AREA)


def _is_too_large(image: NDArray[Any], height: int, width: int) -> bool:
    rows, columns = float(image.shape[0]), float(image.shape[1])
    return max(rows / height, columns / width) > 2 * _SAMPLE_PX
