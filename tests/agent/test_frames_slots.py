"""Pixels cross between processes whole: a slot is kept until its frame has been judged."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.errors import ImageError, JournalError
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Captured, Outcome
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.slots import SLOT_BYTES, SLOTS, PixelSlots, SlotOwners
from ssn_contract.messages import InvalidReason
from support.records import judged, new_journal, trigger

RNG = np.random.default_rng(0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(new_journal(tmp_path / "left.journal", capacity=16)) as made:
        yield made


@pytest.fixture
def slots(tmp_path: Path) -> PixelSlots:
    path = tmp_path / "left.pixels"
    PixelSlots.create(path)
    return PixelSlots(path)


def place(journal: Journal, owners: SlotOwners) -> int:
    """Accept a trigger with a frame in a free slot; return its number."""
    slot = owners.take()
    assert slot is not None
    sequence = journal.accept(trigger())
    journal.capture(sequence, Captured(None, slot, 4, 4))
    owners.give(slot, sequence)
    return sequence


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (480, 640, 3)])
@pytest.mark.parametrize("slot", [0, SLOTS - 1])
def test_another_process_sees_the_very_pixels(
    slots: PixelSlots, slot: int, shape: tuple[int, ...]
) -> None:
    frame = RNG.integers(0, 256, shape, np.uint8)
    size = slots.write(slot, frame)
    assert np.array_equal(PixelSlots(slots.path).view(slot, *size), frame)


def test_a_frame_that_is_not_contiguous_is_copied_as_it_looks(slots: PixelSlots) -> None:
    frame = RNG.integers(0, 256, (6, 8, 3), np.uint8)[::-1, ::2]
    assert np.array_equal(slots.view(0, *slots.write(0, frame)), frame)


def test_what_the_pixels_of_a_frame_mean_crosses_with_them(slots: PixelSlots) -> None:
    gray, colour = np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.uint8)
    assert slots.write(0, gray) == (6, 8, PixelFormat.Mono8)
    assert slots.write(0, colour) == (6, 8, PixelFormat.RGB8)
    size = slots.write(0, gray, PixelFormat.BayerGB8)
    assert size == (6, 8, PixelFormat.BayerGB8)
    assert slots.view(0, *size).shape == (6, 8)


@pytest.mark.parametrize(
    ("shape", "kind", "pixel_format"),
    [
        ((6, 8), np.uint16, None),
        ((6, 8, 3), np.float32, None),
        ((6, 8, 4), np.uint8, None),
        ((6, 8, 1), np.uint8, None),
        ((6,), np.uint8, None),
        ((0, 8), np.uint8, None),
        ((6, 8), np.uint8, PixelFormat.RGB8),
        ((6, 8, 3), np.uint8, PixelFormat.BayerRG8),
    ],
)
def test_a_frame_of_another_depth_channel_count_or_format_is_refused_and_nothing_written(
    slots: PixelSlots, shape: tuple[int, ...], kind: type, pixel_format: PixelFormat | None
) -> None:
    frame: NDArray[Any] = np.full(shape, 300 if kind is np.uint16 else 44, kind)
    with pytest.raises(ImageError, match=r"8 bits|driver"):
        slots.write(0, frame, pixel_format)
    assert not slots.view(0, 64, 64, PixelFormat.Mono8).any()


def test_slots_do_not_overlap(slots: PixelSlots) -> None:
    largest = np.full((8192, SLOT_BYTES // 8192), 9, np.uint8)
    slots.write(1, largest)
    for neighbour in (0, 2):
        assert not slots.view(neighbour, 16, 1024, PixelFormat.Mono8).any()


def test_a_frame_larger_than_a_slot_is_refused_and_its_neighbour_untouched(
    slots: PixelSlots,
) -> None:
    too_large = np.broadcast_to(np.uint8(1), (8192, SLOT_BYTES // 8192 + 1))
    with pytest.raises(ImageError, match="bytes"):
        slots.write(0, too_large)
    assert not slots.view(1, 64, 64, PixelFormat.Mono8).any()


def test_making_the_file_again_keeps_the_pixels(slots: PixelSlots) -> None:
    frame = RNG.integers(0, 256, (4, 4), np.uint8)
    slots.write(3, frame)
    PixelSlots.create(slots.path)
    assert np.array_equal(PixelSlots(slots.path).view(3, 4, 4, PixelFormat.Mono8), frame)


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_file_that_holds_no_slots_is_refused_by_name(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "left.pixels"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=r"left\.pixels"):
        PixelSlots(path)


def test_a_slot_is_not_used_again_before_its_record_has_a_result(journal: Journal) -> None:
    owners = SlotOwners(journal)
    placed = [place(journal, owners) for _ in range(SLOTS)]
    assert owners.take() is None
    journal.commit(placed[0])  # closed as late: inference may be reading it all the same
    assert owners.take() is None
    journal.finish(placed[2], judged(Outcome.PASS))
    third = journal.read(placed[2])
    assert third is not None
    assert third.captured is not None
    assert owners.take() == third.captured.slot


def test_a_new_capture_process_keeps_off_the_slots_that_inference_has_yet_to_read(
    journal: Journal,
) -> None:
    owners = SlotOwners(journal)
    placed = [place(journal, owners) for _ in range(SLOTS)]
    journal.finish(placed[4], judged(Outcome.FAIL))
    with closing(Journal(journal.path)) as after:
        restarted = SlotOwners(after)
        assert restarted.take() == 4
        restarted.give(4, place(after, restarted))
        assert restarted.take() is None


def test_a_record_without_a_frame_holds_no_slot(journal: Journal) -> None:
    for reason in (InvalidReason.UNREADABLE, InvalidReason.OVERLOAD, InvalidReason.LOST):
        journal.capture(journal.accept(trigger()), Captured(reason))
    assert SlotOwners(journal).take() == 0
