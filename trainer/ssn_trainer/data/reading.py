"""Listed images read: bytes and pixels to digests, masks to labels."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import Pixels, decode_image, read_values
from ssn_trainer.data.duplicates import Thumbnail, thumbnail
from ssn_trainer.data.listing import Label, Listed


@dataclass(frozen=True)
class Look:
    """What is kept of an image's pixels."""

    height: int
    width: int
    digest: str
    """SHA-256 of size and pixels: the same for one picture in two files."""
    thumbnail: Thumbnail


@dataclass(frozen=True)
class Read:
    """An image whose file is whole."""

    listed: Listed
    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""
    label: Label
    kind: str | None
    mask: Path | None
    look: Look


def read_images(images: Sequence[Listed]) -> tuple[list[Read], list[str]]:
    """Read every image once; return those that are whole, in order, and what is wrong with others.

    Where the mask tells the label, it is opened too.
    """

    def read(image: Listed) -> Read | str:
        try:
            return _read(image)
        except OSError as error:
            return f"{image.path}: cannot be read ({error.strerror}); check its permissions"
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, images))
    return (
        [r for r in results if not isinstance(r, str)],
        [r for r in results if isinstance(r, str)],
    )


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return where a mask of any depth is above zero in any channel, bool [H, W].

    Raises ImageError.
    """
    values = read_values(path)
    marked = values.reshape(*values.shape[:2], -1) > 0  # [H, W] or [H, W, 3] -> [H, W, C]
    return np.asarray(marked.any(axis=2))


def _pixel_digest(image: Pixels) -> str:
    """Return the SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _read(image: Listed) -> Read:
    data = image.path.read_bytes()
    pixels = decode_image(data, str(image.path))
    height, width = pixels.shape[:2]
    look = Look(height, width, _pixel_digest(pixels), thumbnail(pixels))
    digest = hashlib.sha256(data).hexdigest()
    label, kind, mask = image.label, image.kind, image.mask
    if label is None:
        marks = mask is not None and bool(read_mask(mask).any())
        label, kind, mask = ("bad", kind, mask) if marks else ("good", None, None)
    return Read(image, digest, label, kind, mask, look)
