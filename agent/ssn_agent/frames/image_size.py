"""How large a picture an image file says that it holds, by its header alone.

A decoder takes the memory for a picture before it has seen more than that, and a file of 1 MB can
ask for gigabytes. Where a header can be read in two ways, the file is refused or the larger counts.
"""

import re
import struct

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG, SOF0 to SOF15, that the size follows."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that have no length."""
_DATA_OR_END = frozenset({0xD9, 0xDA})
_MAX_PIECES = 100_000
"""Segments of a JPEG before its size, or chunks of a PNG: more than the largest file that is taken
is written in."""
_WHOLE = 2**32 - 1
"""Rows of a TIFF's strip: all that there are."""


def size_of(data: bytes) -> tuple[int, int]:
    """Return width and height of a BMP, JPEG, PNG, TIFF or WebP, in pixels.

    Of a TIFF whose tiles or strips are larger than its picture, it is their size. Raises ValueError
    where the header is damaged, or of a kind that no program writes.
    """
    try:
        return _size_of(data)
    except (struct.error, IndexError) as error:
        raise ValueError("its header is cut off") from error


def _size_of(data: bytes) -> tuple[int, int]:
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith(b"\x89PNG") and data[8:16] == b"\0\0\0\x0dIHDR":
        return _of_png(data)
    if data.startswith(b"BM"):
        is_old = _number("<I", data, 14) == 12
        width, height = _pair("<HH" if is_old else "<ii", data, 18)
        return abs(width), abs(height)
    if data.startswith(b"RIFF"):
        return _of_webp(data)
    if data.startswith((b"II", b"MM")):
        return _of_tiff(data)
    raise ValueError("its header is of no known kind")


def _of_png(data: bytes) -> tuple[int, int]:
    # OpenCV takes the memory for as long a chunk as the file says, be it one wrong bit.
    at = 8
    for _ in range(_MAX_PIECES):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise ValueError("a chunk is longer than the file")
        if kind == b"IEND":
            return _pair(">II", data, 16)
    raise ValueError("its end is not there")


def _of_jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_MAX_PIECES):
        found = _MARKER.search(data, at)
        if found is None:
            break
        at, marker = found.end(), data[found.end() - 1]
        if marker in _FRAMES:
            height, width = _pair(">HH", data, at + 3)
            return width, height
        if marker in _DATA_OR_END:
            break
        if marker not in _BARE:
            at += max(2, _number(">H", data, at))
    raise ValueError("its size is not there")


def _of_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (_number("<I", data[at : at + 3] + b"\0", 0) for at in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = _number("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("its header is of no known kind")


def _of_tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    at = _number(order + "I", data, 4)
    entries = _number(order + "H", data, at)
    found: dict[int, int] = {}
    for number in range(entries):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at + 2 + 12 * number)
        if tag in {256, 257, 278, 322, 323}:
            layout = {3: "H", 4: "I"}.get(kind)
            if layout is None or count != 1:
                raise ValueError("its size is no number")
            value = _number(order + layout, data, at + 10 + 12 * number)
            found[tag] = max(found.get(tag, 0), value)
    width, height = found.get(256, 0), found.get(257, 0)
    rows = 0 if found.get(278) == _WHOLE else found.get(278, 0)
    sizes = (width, height), (width, rows), (found.get(322, 0), found.get(323, 0))
    return max(sizes, key=lambda size: size[0] * size[1])


def _number(layout: str, data: bytes, at: int) -> int:
    return int(struct.unpack_from(layout, data, at)[0])


def _pair(layout: str, data: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, at)
    return int(first), int(second)
