"""An image's size is known before memory is taken for it: a small file cannot end a process."""

import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.errors import ImageError
from ssn_agent.frames.image_size import size_of
from ssn_agent.frames.pixels import decode_image, decode_values

HEIGHT, WIDTH = 60, 90
SCENE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
BOMB_SIDE = 30_000
ROOM_BYTES = 300 * 2**20


def encode(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


@contextmanager
def little_room() -> Iterator[None]:
    """Leave this process so much memory more, and a decoder's thousands of megabytes not."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def png_of_zeros(side: int) -> bytes:
    """Return a PNG whose content is whole: a black picture of a megabyte or less."""
    rows, size = side * b"\0" + b"\0", side * (side + 1)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(rows * 100) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros
    packed = b"\x78\xda" + block * (side // 100) + b"\x03\0" + checksum
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    chunks = chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_of_a_megabyte_that_would_take_gigabytes_is_refused_without_them() -> None:
    assert not decode_image(png_of_zeros(200), "small").any()
    bomb = png_of_zeros(BOMB_SIDE)
    assert len(bomb) < 2**20
    with little_room(), pytest.raises(ImageError, match="bomb: 30000 x 30000 pixels; up to 64"):
        decode_image(bomb, "bomb")


def test_a_png_with_one_wrong_bit_in_a_chunk_s_length_takes_no_gigabytes() -> None:
    data = bytearray(encode(".png", SCENE))
    at = data.index(b"IDAT") - 4
    data[at] = 0x40
    with little_room(), pytest.raises(ImageError, match=r"bad: .*a chunk is longer than the file"):
        decode_image(bytes(data), "bad")


@pytest.mark.parametrize(
    ("suffix", "image", "options"),
    [
        (".png", SCENE, ()),
        (".bmp", SCENE[..., :3], ()),
        (".bmp", SCENE[..., 0], ()),
        (".tif", SCENE, ()),
        (".tif", SCENE[..., 0].astype(np.uint16), ()),
        (".jpg", SCENE[..., :3], ()),
        (".jpg", SCENE[..., 0], (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".webp", SCENE[..., :3], (cv2.IMWRITE_WEBP_QUALITY, 80)),
        (".webp", SCENE[..., :3], (cv2.IMWRITE_WEBP_QUALITY, 101)),
        (".webp", SCENE, (cv2.IMWRITE_WEBP_QUALITY, 80)),
    ],
)
def test_the_size_that_a_header_says_is_the_picture_s(
    suffix: str, image: np.ndarray, options: tuple[int, ...]
) -> None:
    data = encode(suffix, image, *options)
    assert size_of(data) == (WIDTH, HEIGHT)
    assert decode_values(data, "whole").shape[:2] == (HEIGHT, WIDTH)


def tiff(order: str, *entries: tuple[int, int, int]) -> bytes:
    """Return a TIFF's header with these tags, kinds and values."""
    made = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, value in entries:
        field = struct.pack(order + ("H2x" if kind == 3 else "I"), value)
        made += struct.pack(order + "HHI", tag, kind, 1) + field
    return made


@pytest.mark.parametrize("order", ["<", ">"])
def test_of_a_tiff_the_largest_of_what_it_says_counts(order: str) -> None:
    size = (256, 3, 90), (257, 4, 60)
    assert size_of(tiff(order, *size, (278, 4, 2**32 - 1))) == (90, 60)
    assert size_of(tiff(order, *size, (278, 4, 10**6))) == (90, 10**6)
    assert size_of(tiff(order, *size, (322, 4, 20_000), (323, 4, 30_000))) == (20_000, 30_000)
    assert size_of(tiff(order, *size, (256, 4, 10**6))) == (10**6, 60)
    with pytest.raises(ValueError, match="no number"):
        size_of(tiff(order, *size, (256, 16, 1)))


def test_a_jpeg_is_as_large_as_its_own_header_says_and_not_its_thumbnail_s() -> None:
    data, thumbnail = (encode(".jpg", image) for image in (SCENE[..., 0], SCENE[:8, :8, 0]))
    segment = b"\xff\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert size_of(data[:2] + b"\0\xff\0" + segment + data[2:]) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".webp"])
def test_a_header_that_is_cut_off_or_spoilt_is_damaged_or_says_a_size(suffix: str) -> None:
    data = bytearray(encode(suffix, SCENE[..., 0]))
    spoilt = [bytes(data[:at]) for at in range(64)]
    for at in range(2, 64):
        spoilt += [bytes(data[:at]) + bytes([value]) + bytes(data[at + 1 :]) for value in (0, 255)]
    for item in spoilt:
        try:
            width, height = size_of(item)
        except ValueError:
            continue
        assert min(width, height) >= 0
