"""The notes in a journal's header: how a camera, its model and its input are at present.

Each is written again and again, whole or not at all to a reader (`frames.layout`, which has the
byte table).
"""

import struct
from dataclasses import astuple, dataclass
from enum import IntEnum

from ssn_agent.frames.layout import (
    CAMERA_NOTE_AT,
    INTAKE_NOTE_AT,
    MODEL_NOTE_AT,
    REASONS,
    SPILL_NOTE_AT,
    sealed,
    unpadded,
    unsealed,
)
from ssn_contract.messages import InvalidReason


class CameraState(IntEnum):
    """How a camera is."""

    STARTING = 0
    RUNNING = 1
    ENDED = 2
    FAULTY = 3


@dataclass(frozen=True)
class CameraNote:
    """How the camera is, and since when."""

    state: CameraState
    since_utc_ns: int
    message: str


@dataclass(frozen=True)
class ModelNote:
    """What judges this camera's frames; an empty digest: nothing does, and `message` says why.

    The camera's own bundle is named, or the first product's where the camera itself has none; each
    verdict names the one that made it. `message` has the problems of them all, a line each: bundles
    that should judge and do not, and engines that were refused.
    """

    since_utc_ns: int
    bundle_digest: str
    bundle_name: str
    bundle_version: str
    engine: str
    message: str
    checks: tuple[InvalidReason, ...] = ()
    """What pictures are checked for before they are judged."""


@dataclass(frozen=True)
class IntakeNote:
    """What has come to a camera's input, and what has not, since this journal began."""

    discarded_frames: int = 0
    """Frames of triggers that no longer waited for one."""
    malformed_messages: int = 0
    received_frames: int = 0
    """Whole or not, whatever became of them."""
    incomplete_frames: int = 0
    """Of those: what came damaged, in part, or failed in the camera."""
    missed_frames: int = 0
    """Frames that the device has counted and that never came."""
    reconnects: int = 0
    """How often the source was opened again after a fault."""


@dataclass(frozen=True)
class SpillNote:
    """Verdicts INVALID(ledger) that the database was never told of, but for their count."""

    count: int = 0
    """Since the database last took it up."""
    last: int = 0
    """The highest number that was ever counted so."""


_CAMERA_NOTE = struct.Struct("<BQ400s")
_MODEL_NOTE = struct.Struct("<Q32s64s64s48s400sI")
_INTAKE_NOTE = struct.Struct("<QQQQQQ")
_SPILL_NOTE = struct.Struct("<QQ")


def pack_camera_note(note: CameraNote) -> bytes:
    """Return the note's bytes; a long message is cut."""
    return sealed(_CAMERA_NOTE.pack(note.state, note.since_utc_ns, _cut(note.message)))


def unpack_camera_note(buffer: memoryview) -> CameraNote | None:
    """Return the note, or None while there is none or it is just being written."""
    body = unsealed(buffer, CAMERA_NOTE_AT, _CAMERA_NOTE.size)
    if body is None:
        return None
    state, since, message = _CAMERA_NOTE.unpack(body)
    return CameraNote(CameraState(state), since, message.rstrip(b"\0").decode(errors="replace"))


def pack_model_note(note: ModelNote) -> bytes:
    """Return the note's bytes; a long message is cut."""
    return sealed(
        _MODEL_NOTE.pack(
            note.since_utc_ns,
            bytes.fromhex(note.bundle_digest),
            note.bundle_name.encode("ascii"),
            note.bundle_version.encode("ascii"),
            note.engine.encode("ascii"),
            _cut(note.message),
            sum(1 << REASONS.index(check) for check in set(note.checks)),
        )
    )


def unpack_model_note(buffer: memoryview) -> ModelNote | None:
    """Return the note, or None while there is none or it is just being written."""
    body = unsealed(buffer, MODEL_NOTE_AT, _MODEL_NOTE.size)
    if body is None:
        return None
    since, digest, name, version, engine, message, checks = _MODEL_NOTE.unpack(body)
    return ModelNote(
        since,
        digest.hex() if any(digest) else "",
        unpadded(name),
        unpadded(version),
        unpadded(engine),
        message.rstrip(b"\0").decode(errors="replace"),
        tuple(reason for number, reason in enumerate(REASONS) if checks >> number & 1),
    )


def pack_intake_note(note: IntakeNote) -> bytes:
    """Return the note's bytes."""
    return sealed(_INTAKE_NOTE.pack(*astuple(note)))


def unpack_intake_note(buffer: memoryview) -> IntakeNote | None:
    """Return the note, or None while there is none or it is just being written."""
    body = unsealed(buffer, INTAKE_NOTE_AT, _INTAKE_NOTE.size)
    return None if body is None else IntakeNote(*_INTAKE_NOTE.unpack(body))


def pack_spill_note(note: SpillNote) -> bytes:
    """Return the note's bytes."""
    return sealed(_SPILL_NOTE.pack(note.count, note.last))


def unpack_spill_note(buffer: memoryview) -> SpillNote | None:
    """Return the note, or None while there is none."""
    body = unsealed(buffer, SPILL_NOTE_AT, _SPILL_NOTE.size)
    return None if body is None else SpillNote(*_SPILL_NOTE.unpack(body))


def _cut(message: str) -> bytes:
    # A file name that is not UTF-8 has characters in it that cannot be encoded.
    return message.encode(errors="replace")[:400]
