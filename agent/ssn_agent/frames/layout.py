"""The byte table of the journal file. Little-endian; every offset is stated here and nowhere else.

    header, 4096 bytes
        0  magic      8   b"SSNJRNL\\n"
        8  layout     4   version of this table, 5
       12  capacity   4   records
       16  epoch     16   UUID of the numbering
       32  boot      16   UUID of the boot that the monotonic times belong to
       48  first      8   first sequence number of this file
       56  camera    64   name, zero-padded ASCII
      120  crc        4   CRC-32 of the bytes before
      512  spill    512   by the ledger process: verdicts that were counted and not kept
     1024  camera  1024   by capture: how the camera is; written again and again
     2048  model   1024   by inference: what judges; written again and again
     3072  intake  1024   by capture: what came and was not taken; written again and again
    record of sequence n, 2304 bytes, at 4096 + 2304 * (n % capacity)
        0  accepted 1280  by capture: the trigger
     1280  captured   64  by capture: its frame, or why there is none
     1344  result    864  by inference: what the model made of it
     2208  decision   64  by the ledger process: the verdict
     2272  committed  32  by the ledger process: the verdict is in the database
    spill records, 256 behind the ring, alike; that of sequence n at n % 256. They hold triggers
    that come while their own record still holds a verdict that the database could not take: these
    are INVALID(ledger). `committed` may mean here that one was counted, and no more.

A region is one `struct` with its sequence number first and a CRC-32 last. It counts when the number
is the record's and the CRC holds: so a reader never takes half a write for a whole one, whatever
the processor's memory order and whenever the writer was killed, and what an earlier turn of the
ring left behind does not count either. Each region has one writing process.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from ssn_agent.errors import JournalError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_contract.messages import InvalidReason

MAGIC = b"SSNJRNL\n"
LAYOUT_VERSION = 5
HEADER_BYTES = 4096
RECORD_BYTES = 2304
CAPACITY = 4096
"""Records of a journal: 68 s at 60 frames a second."""
SPILL_RECORDS = 256
"""Seconds' worth: the ledger process is done with one at once, unless it is just being replaced."""
MAX_DEFECTS = 16
"""Regions that a record holds: the largest ones; the count of all is kept beside them."""

REASONS: tuple[InvalidReason, ...] = tuple(InvalidReason)
"""A reason's place here is its number on disk: new ones are appended to the enumeration."""


class Outcome(IntEnum):
    """How a step of a record ended."""

    OK = 0
    PASS = 1
    FAIL = 2
    INVALID = 3


@dataclass(frozen=True)
class Header:
    """What a journal belongs to."""

    camera: str
    epoch: UUID
    boot: UUID
    first: int
    capacity: int = CAPACITY


@dataclass(frozen=True)
class Accepted:
    """A trigger that was counted. Times in nanoseconds; `monotonic` is CLOCK_MONOTONIC."""

    triggered_monotonic_ns: int
    triggered_utc_ns: int
    deadline_monotonic_ns: int
    part_id: str | None
    product: str | None
    trigger_id: str | None = None
    """The sender's own, or a file's, by which it is known again; None: a frame is its trigger."""


@dataclass(frozen=True)
class Captured:
    """The frame of a trigger and the pixel slot it lies in, or why there is none."""

    reason: InvalidReason | None
    slot: int = 0
    height: int = 0
    width: int = 0
    pixel_format: PixelFormat = PixelFormat.Mono8
    frame_monotonic_ns: int = 0
    """When the frame was taken, as `frame_utc_ns`."""
    frame_id: int | None = None
    frame_utc_ns: int = 0
    device_timestamp_ns: int | None = None
    """By the device's own clock."""


@dataclass(frozen=True)
class Defect:
    """A region of the map in source-image pixels; box and area are 0 for a peak alone."""

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak_x: int
    peak_y: int
    peak: float


@dataclass(frozen=True)
class Result:
    """What the model made of a frame, or why it could not."""

    outcome: Outcome
    reason: InvalidReason | None
    finished_monotonic_ns: int
    score: float = 0.0
    threshold: float = 0.0
    settings_digest: str = ""
    """Of the settings that this frame was judged by; they may have changed since."""
    bundle_digest: str = ""
    bundle_name: str = ""
    bundle_version: str = ""
    engine: str = ""
    heatmap: bool = False
    """A heatmap's file follows this result; where it cannot be written, the log says so."""
    image: bool = False
    """The picture's own file follows, likewise."""
    region: tuple[int, int, int, int] = (0, 0, 0, 0)
    """What was judged of the frame: x, y, width, height, by the settings of that moment."""
    defects: tuple[Defect, ...] = ()
    defect_count: int = 0


@dataclass(frozen=True)
class Decision:
    """The one verdict."""

    outcome: Outcome
    reason: InvalidReason | None
    decided_monotonic_ns: int
    decided_utc_ns: int


_HEADER = struct.Struct("<8sII16s16sQ64s")
_ACCEPTED = struct.Struct("<QQQQH480sH256sH480s")
_CAPTURED = struct.Struct("<QBIIIIQqQq")
_RESULT = struct.Struct("<QBBQdd32s32s64s64s48sBB4IBI")
_DEFECT = struct.Struct("<IIIIIIIf")
_DECISION = struct.Struct("<QBBQQ")
_COMMITTED = struct.Struct("<Q")
_NUMBER = struct.Struct("<Q")
_CRC = struct.Struct("<I")

SPILL_NOTE_AT = 512
CAMERA_NOTE_AT = 1024
MODEL_NOTE_AT = 2048
INTAKE_NOTE_AT = 3072
ACCEPTED_AT = 0
CAPTURED_AT = 1280
RESULT_AT = 1344
DECISION_AT = 2208
COMMITTED_AT = 2272

MAX_PART_ID_BYTES = 480
MAX_TRIGGER_ID_BYTES = 480
MAX_PRODUCT_BYTES = 256
_NO_REASON = 255
_NO_TEXT = 0xFFFF
_NONE = -1


def sealed(body: bytes) -> bytes:
    """Append the CRC-32 of a region's body."""
    return body + _CRC.pack(zlib.crc32(body))


def unsealed(buffer: memoryview, offset: int, size: int) -> bytes | None:
    """Return a region's body where its CRC-32 holds, else None."""
    body = bytes(buffer[offset : offset + size])
    (crc,) = _CRC.unpack_from(buffer, offset + size)
    return body if crc == zlib.crc32(body) else None


def pack_header(header: Header) -> bytes:
    """Return the header's bytes."""
    return sealed(
        _HEADER.pack(
            MAGIC,
            LAYOUT_VERSION,
            header.capacity,
            header.epoch.bytes,
            header.boot.bytes,
            header.first,
            header.camera.encode("ascii"),
        )
    )


def unpack_header(buffer: memoryview) -> Header | None:
    """Return the header, or None where the bytes are not a whole one of this layout."""
    body = unsealed(buffer, 0, _HEADER.size)
    if body is None:
        return None
    magic, version, capacity, epoch, boot, first, camera = _HEADER.unpack(body)
    if magic != MAGIC or version != LAYOUT_VERSION:
        return None
    return Header(unpadded(camera), UUID(bytes=epoch), UUID(bytes=boot), first, capacity)


def number(record: memoryview) -> int:
    """Return the sequence number that a record was last begun for, whole or not; 0: none yet."""
    return int(_NUMBER.unpack_from(record, ACCEPTED_AT)[0])


def pack_accepted(sequence: int, value: Accepted) -> bytes:
    """Return the region's bytes. Raises JournalError where a text does not fit."""
    part_id, part_id_size = _text(value.part_id, MAX_PART_ID_BYTES)
    product, product_size = _text(value.product, MAX_PRODUCT_BYTES)
    trigger_id, trigger_id_size = _text(value.trigger_id, MAX_TRIGGER_ID_BYTES)
    return sealed(
        _ACCEPTED.pack(
            sequence,
            value.triggered_monotonic_ns,
            value.triggered_utc_ns,
            value.deadline_monotonic_ns,
            part_id_size,
            part_id,
            product_size,
            product,
            trigger_id_size,
            trigger_id,
        )
    )


def unpack_accepted(record: memoryview) -> tuple[int, Accepted] | None:
    """Return (sequence, region) of any turn of the ring; None where it is not whole."""
    body = unsealed(record, ACCEPTED_AT, _ACCEPTED.size)
    if body is None:
        return None
    sequence, mono, utc, deadline, *texts = _ACCEPTED.unpack(body)
    part_id, product, trigger_id = (_untext(texts[i + 1], texts[i]) for i in (0, 2, 4))
    return sequence, Accepted(mono, utc, deadline, part_id, product, trigger_id)


def pack_captured(sequence: int, value: Captured) -> bytes:
    """Return the region's bytes."""
    return sealed(
        _CAPTURED.pack(
            sequence,
            _reason(value.reason),
            value.slot,
            value.height,
            value.width,
            value.pixel_format,
            value.frame_monotonic_ns,
            _NONE if value.frame_id is None else value.frame_id,
            value.frame_utc_ns,
            _NONE if value.device_timestamp_ns is None else value.device_timestamp_ns,
        )
    )


def unpack_captured(record: memoryview, sequence: int) -> Captured | None:
    """Return the region where it is whole and of this sequence number."""
    body = unsealed(record, CAPTURED_AT, _CAPTURED.size)
    if body is None:
        return None
    number, reason, slot, height, width, pixel_format, mono, frame_id, utc, device = (
        _CAPTURED.unpack(body)
    )
    if number != sequence:
        return None
    return Captured(
        _unreason(reason),
        slot,
        height,
        width,
        PixelFormat(pixel_format),
        mono,
        None if frame_id < 0 else frame_id,
        utc,
        None if device < 0 else device,
    )


def pack_result(sequence: int, value: Result) -> bytes:
    """Return the region's bytes; the names are cut to their fields."""
    body = _RESULT.pack(
        sequence,
        value.outcome,
        _reason(value.reason),
        value.finished_monotonic_ns,
        value.score,
        value.threshold,
        bytes.fromhex(value.settings_digest),
        bytes.fromhex(value.bundle_digest),
        value.bundle_name.encode("ascii"),
        value.bundle_version.encode("ascii"),
        value.engine.encode("ascii"),
        value.heatmap,
        value.image,
        *value.region,
        len(value.defects),
        value.defect_count,
    )
    for d in value.defects:
        body += _DEFECT.pack(d.x, d.y, d.width, d.height, d.area_px, d.peak_x, d.peak_y, d.peak)
    return sealed(body.ljust(_RESULT.size + MAX_DEFECTS * _DEFECT.size, b"\0"))


def unpack_result(record: memoryview, sequence: int) -> Result | None:
    """Return the region where it is whole and of this sequence number."""
    body = unsealed(record, RESULT_AT, _RESULT.size + MAX_DEFECTS * _DEFECT.size)
    if body is None:
        return None
    (
        number,
        outcome,
        reason,
        finished,
        score,
        threshold,
        settings,
        digest,
        name,
        version,
        engine,
        heatmap,
        image,
        *region,
        count,
        n_all,
    ) = _RESULT.unpack_from(body)
    if number != sequence:
        return None
    start = _RESULT.size
    defects = (Defect(*_DEFECT.unpack_from(body, start + i * _DEFECT.size)) for i in range(count))
    return Result(
        Outcome(outcome),
        _unreason(reason),
        finished,
        score,
        threshold,
        settings.hex() if any(settings) else "",
        digest.hex() if any(digest) else "",
        unpadded(name),
        unpadded(version),
        unpadded(engine),
        bool(heatmap),
        bool(image),
        (region[0], region[1], region[2], region[3]),
        tuple(defects),
        n_all,
    )


def pack_decision(sequence: int, value: Decision) -> bytes:
    """Return the region's bytes."""
    return sealed(
        _DECISION.pack(
            sequence,
            value.outcome,
            _reason(value.reason),
            value.decided_monotonic_ns,
            value.decided_utc_ns,
        )
    )


def unpack_decision(record: memoryview, sequence: int) -> Decision | None:
    """Return the region where it is whole and of this sequence number."""
    body = unsealed(record, DECISION_AT, _DECISION.size)
    if body is None:
        return None
    number, outcome, reason, mono, utc = _DECISION.unpack(body)
    if number != sequence:
        return None
    return Decision(Outcome(outcome), _unreason(reason), mono, utc)


def pack_committed(sequence: int) -> bytes:
    """Return the region's bytes."""
    return sealed(_COMMITTED.pack(sequence))


def is_committed(record: memoryview, sequence: int) -> bool:
    """Say whether the verdict of this sequence number is in the database."""
    return unsealed(record, COMMITTED_AT, _COMMITTED.size) == _COMMITTED.pack(sequence)


def _text(value: str | None, max_bytes: int) -> tuple[bytes, int]:
    data = (value or "").encode()
    if len(data) > max_bytes:
        msg = f"a text of {len(data)} bytes; the journal takes up to {max_bytes}"
        raise JournalError(msg)
    return data, _NO_TEXT if value is None else len(data)


def _untext(data: bytes, size: int) -> str | None:
    return None if size == _NO_TEXT else data[:size].decode()


def _reason(value: InvalidReason | None) -> int:
    return _NO_REASON if value is None else REASONS.index(value)


def _unreason(number: int) -> InvalidReason | None:
    return None if number == _NO_REASON else REASONS[number]


def unpadded(data: bytes) -> str:
    """Return a zero-padded ASCII text."""
    return data.rstrip(b"\0").decode("ascii")
