"""The byte table of the journal: what one process writes, every other one reads, whole or not.

`PYTHONPATH=tests python tests/agent/test_frames_layout.py` writes the golden bytes anew; a change
in them is a change of `LAYOUT_VERSION`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_agent.errors import JournalError
from ssn_agent.frames import layout, notes
from ssn_agent.frames.layout import Accepted, Captured, Decision, Defect, Header, Outcome, Result
from ssn_agent.frames.notes import CameraNote, CameraState, IntakeNote, ModelNote, SpillNote
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_contract.messages import InvalidReason

GOLDEN = Path(__file__).with_name("golden") / "journal.hex"

nanoseconds = st.integers(0, 2**64 - 1)
sequences = st.integers(1, 2**53)
sizes = st.integers(0, 2**32 - 1)
reasons = st.none() | st.sampled_from(InvalidReason)
digests = st.just("") | st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
letters = st.characters(min_codepoint=33, max_codepoint=126)
utf8 = st.characters(codec="utf-8")
outcomes = st.sampled_from(Outcome)
floats = st.floats(0, 1)

headers = st.builds(
    Header,
    st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=64),
    st.uuids(),
    st.uuids(),
    sequences,
    st.integers(1, 2**32 - 1),
)
camera_notes = st.builds(
    CameraNote, st.sampled_from(CameraState), nanoseconds, st.text(letters, max_size=400)
)
model_notes = st.builds(
    ModelNote,
    nanoseconds,
    digests,
    st.text(letters, max_size=64),
    st.text(letters, max_size=64),
    st.text(letters, max_size=48),
    st.text(letters, max_size=400),
)
triggers = st.builds(
    Accepted,
    nanoseconds,
    nanoseconds,
    nanoseconds,
    st.none() | st.text(utf8, min_size=1, max_size=120),
    st.none() | st.text(utf8, min_size=1, max_size=64),
    st.none() | st.text(utf8, min_size=1, max_size=120),
)
frames = st.builds(
    Captured,
    reasons,
    st.integers(0, 5),
    sizes,
    sizes,
    st.sampled_from(PixelFormat),
    nanoseconds,
    st.none() | st.integers(0, 2**63 - 1),
    nanoseconds,
    st.none() | st.integers(0, 2**63 - 1),
)
defects = st.builds(
    Defect, sizes, sizes, sizes, sizes, sizes, sizes, sizes, st.floats(0, 1, width=32)
)
results = st.builds(
    Result,
    outcomes,
    reasons,
    nanoseconds,
    floats,
    floats,
    digests,
    digests,
    st.text(letters, max_size=64),
    st.text(letters, max_size=64),
    st.text(letters, max_size=48),
    st.booleans(),
    st.booleans(),
    st.tuples(sizes, sizes, sizes, sizes),
    st.lists(defects, max_size=layout.MAX_DEFECTS).map(tuple),
    sizes,
)
decisions = st.builds(Decision, outcomes, reasons, nanoseconds, nanoseconds)


class Region(NamedTuple):
    """One region of a record: where it lies, and how its bytes are read."""

    name: str
    start: int
    end: int
    packed: bytes
    read: Callable[[memoryview, int], object]


SEQUENCE = 4711
ACCEPTED = Accepted(1, 2, 3, "Teil-Ä-0815", "flange", "line2-Ä-000123")
CAPTURED = Captured(None, 3, 1200, 1600, PixelFormat.BayerRG8, 4, 65535, 12, 13)
RESULT = Result(
    Outcome.FAIL,
    None,
    5,
    0.75,
    0.5,
    "cd" * 32,
    "ab" * 32,
    "flange",
    "1.2.0",
    "onnxruntime-cpu/fp32",
    True,
    True,
    (31, 32, 33, 34),
    tuple(Defect(i, 2, 3, 4, 5, 6, 7, 0.5) for i in range(layout.MAX_DEFECTS)),
    21,
)
DECISION = Decision(Outcome.INVALID, InvalidReason.LATE, 6, 7)
REGIONS = [
    Region(
        "accepted",
        layout.ACCEPTED_AT,
        layout.CAPTURED_AT,
        layout.pack_accepted(SEQUENCE, ACCEPTED),
        lambda record, number: layout.unpack_accepted(record) == (number, ACCEPTED) or None,
    ),
    Region(
        "captured",
        layout.CAPTURED_AT,
        layout.RESULT_AT,
        layout.pack_captured(SEQUENCE, CAPTURED),
        layout.unpack_captured,
    ),
    Region(
        "result",
        layout.RESULT_AT,
        layout.DECISION_AT,
        layout.pack_result(SEQUENCE, RESULT),
        layout.unpack_result,
    ),
    Region(
        "decision",
        layout.DECISION_AT,
        layout.COMMITTED_AT,
        layout.pack_decision(SEQUENCE, DECISION),
        layout.unpack_decision,
    ),
    Region(
        "committed",
        layout.COMMITTED_AT,
        layout.RECORD_BYTES,
        layout.pack_committed(SEQUENCE),
        lambda record, number: layout.is_committed(record, number) or None,
    ),
]
each_region = pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.name)


def whole_record() -> bytearray:
    record = bytearray(layout.RECORD_BYTES)
    for region in REGIONS:
        record[region.start : region.start + len(region.packed)] = region.packed
    return record


def at(offset: int, region: bytes, size: int = layout.RECORD_BYTES) -> memoryview:
    """Return a buffer of zeros with a region in its place."""
    buffer = bytearray(size)
    buffer[offset : offset + len(region)] = region
    return memoryview(buffer)


@given(headers)
def test_a_header_comes_back_as_it_was_written(header: Header) -> None:
    packed = layout.pack_header(header)
    assert len(packed) <= layout.CAMERA_NOTE_AT
    assert layout.unpack_header(at(0, packed, layout.HEADER_BYTES)) == header


@given(camera_notes)
def test_a_camera_note_comes_back_as_it_was_written(note: CameraNote) -> None:
    packed = notes.pack_camera_note(note)
    assert layout.CAMERA_NOTE_AT + len(packed) <= layout.MODEL_NOTE_AT
    buffer = at(layout.CAMERA_NOTE_AT, packed, layout.HEADER_BYTES)
    assert notes.unpack_camera_note(buffer) == note


@given(model_notes)
def test_a_model_note_comes_back_as_it_was_written(note: ModelNote) -> None:
    packed = notes.pack_model_note(note)
    assert layout.MODEL_NOTE_AT + len(packed) <= layout.INTAKE_NOTE_AT
    buffer = at(layout.MODEL_NOTE_AT, packed, layout.HEADER_BYTES)
    assert notes.unpack_model_note(buffer) == note


@given(st.builds(IntakeNote, *[nanoseconds] * 6))
def test_an_intake_note_comes_back_as_it_was_written(note: IntakeNote) -> None:
    packed = notes.pack_intake_note(note)
    assert layout.INTAKE_NOTE_AT + len(packed) <= layout.HEADER_BYTES
    buffer = at(layout.INTAKE_NOTE_AT, packed, layout.HEADER_BYTES)
    assert notes.unpack_intake_note(buffer) == note


@given(st.text())
def test_a_note_in_any_script_and_of_any_length_is_cut_and_stays_readable(message: str) -> None:
    note = CameraNote(CameraState.FAULTY, 1, message)
    buffer = at(layout.CAMERA_NOTE_AT, notes.pack_camera_note(note), layout.HEADER_BYTES)
    read = notes.unpack_camera_note(buffer)
    assert read is not None
    assert message.rstrip("\0").startswith(read.message.rstrip("\0\N{REPLACEMENT CHARACTER}"))


def test_a_note_that_names_a_file_whose_name_is_no_text_can_be_written() -> None:
    message = b"/parts/\xff.png: cannot be read".decode(errors="surrogateescape")
    note = CameraNote(CameraState.FAULTY, 1, message)
    buffer = at(layout.CAMERA_NOTE_AT, notes.pack_camera_note(note), layout.HEADER_BYTES)
    read = notes.unpack_camera_note(buffer)
    assert read is not None
    assert read.message == "/parts/?.png: cannot be read"


@given(sequences, triggers)
def test_a_trigger_comes_back_as_it_was_written(sequence: int, value: Accepted) -> None:
    packed = layout.pack_accepted(sequence, value)
    assert layout.ACCEPTED_AT + len(packed) <= layout.CAPTURED_AT
    assert layout.unpack_accepted(at(layout.ACCEPTED_AT, packed)) == (sequence, value)


@given(sequences, frames)
def test_a_frame_comes_back_as_it_was_written(sequence: int, value: Captured) -> None:
    packed = layout.pack_captured(sequence, value)
    assert layout.CAPTURED_AT + len(packed) <= layout.RESULT_AT
    assert layout.unpack_captured(at(layout.CAPTURED_AT, packed), sequence) == value


@given(sequences, results)
def test_a_result_comes_back_as_it_was_written(sequence: int, value: Result) -> None:
    packed = layout.pack_result(sequence, value)
    assert layout.RESULT_AT + len(packed) <= layout.DECISION_AT
    assert layout.unpack_result(at(layout.RESULT_AT, packed), sequence) == value


@given(sequences, decisions)
def test_a_decision_comes_back_as_it_was_written(sequence: int, value: Decision) -> None:
    packed = layout.pack_decision(sequence, value)
    assert layout.DECISION_AT + len(packed) <= layout.COMMITTED_AT
    assert layout.unpack_decision(at(layout.DECISION_AT, packed), sequence) == value


@each_region
def test_an_empty_record_holds_nothing(region: Region) -> None:
    assert region.read(memoryview(bytearray(layout.RECORD_BYTES)), 0) is None


@each_region
def test_regions_fit_into_their_places_and_do_not_overlap(region: Region) -> None:
    assert region.start + len(region.packed) <= region.end
    assert region.read(memoryview(whole_record()), SEQUENCE) is not None


@each_region
@pytest.mark.parametrize("bit", [0, 7])
def test_a_region_with_any_byte_flipped_does_not_count(region: Region, bit: int) -> None:
    for offset in range(region.start, region.start + len(region.packed)):
        record = whole_record()
        record[offset] ^= 1 << bit
        assert region.read(memoryview(record), SEQUENCE) is None, offset


@each_region
def test_a_region_that_was_half_written_over_an_older_one_does_not_count(region: Region) -> None:
    older = bytes(b ^ 0xFF for b in region.packed)
    for written in range(1, len(region.packed)):
        record = whole_record()
        torn = region.packed[:written] + older[written:]
        record[region.start : region.start + len(torn)] = torn
        assert region.read(memoryview(record), SEQUENCE) is None, written


@each_region
def test_a_region_of_another_turn_of_the_ring_does_not_count(region: Region) -> None:
    assert region.read(memoryview(whole_record()), SEQUENCE + 8) is None


def test_any_flipped_byte_of_the_header_makes_it_no_journal() -> None:
    sound = layout.pack_header(Header("left", UUID(int=1), UUID(int=2), 1))
    for offset in range(len(sound)):
        flipped = bytearray(sound)
        flipped[offset] ^= 1
        assert layout.unpack_header(memoryview(flipped)) is None, offset


@pytest.mark.parametrize("letter", ["x", "ä", "€", "🔩"])
def test_the_longest_texts_of_the_contract_fit_in_any_script(letter: str) -> None:
    value = Accepted(1, 2, 3, letter * 120, letter * 64, letter * 120)
    packed = layout.pack_accepted(1, value)
    assert layout.unpack_accepted(at(0, packed)) == (1, value)


@pytest.mark.parametrize(
    "value",
    [
        Accepted(1, 2, 3, "€" * 161, None),
        Accepted(1, 2, 3, None, "€" * 86),
        Accepted(1, 2, 3, None, None, "€" * 161),
    ],
)
def test_a_text_that_does_not_fit_is_refused_and_never_stored_cut_in_a_character(
    value: Accepted,
) -> None:
    with pytest.raises(JournalError, match="bytes"):
        layout.pack_accepted(1, value)


def test_reasons_keep_their_numbers_so_that_a_record_of_yesterday_reads_the_same() -> None:
    assert [reason.value for reason in layout.REASONS] == [
        "late",
        "lost",
        "overrun",
        "overload",
        "unreadable",
        "no_model",
        "ledger",
        "challenge",
        "frozen",
        "dark",
        "blown_out",
        "out_of_focus",
        "moved",
        "wrong_size",
    ]


def golden() -> str:
    """Return header and record in hexadecimal, 32 bytes a line, lines of zeros left out."""
    header = bytearray(layout.HEADER_BYTES)
    for offset, region in (
        (0, layout.pack_header(Header("left", UUID(int=1), UUID(int=2), 42, 8))),
        (
            layout.CAMERA_NOTE_AT,
            notes.pack_camera_note(CameraNote(CameraState.FAULTY, 8, "does not open")),
        ),
        (
            layout.MODEL_NOTE_AT,
            notes.pack_model_note(
                ModelNote(9, "cd" * 32, "flange", "1.2.0", "engine", "none", (InvalidReason.DARK,))
            ),
        ),
        (layout.INTAKE_NOTE_AT, notes.pack_intake_note(IntakeNote(10, 11, 14, 15, 16, 17))),
        (layout.SPILL_NOTE_AT, notes.pack_spill_note(SpillNote(12, 13))),
    ):
        header[offset : offset + len(region)] = region
    data = bytes(header + whole_record())
    lines = [f"{at:05x} {data[at : at + 32].hex()}" for at in range(0, len(data), 32)]
    return "".join(f"{line}\n" for line in lines if line[6:].strip("0"))


def test_the_bytes_on_disk_are_those_of_the_golden_file() -> None:
    assert golden() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden())
