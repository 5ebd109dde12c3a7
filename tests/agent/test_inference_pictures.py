"""Pictures worth a label are kept as the model saw them, and hold no verdict up."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.atomic import write_atomically
from ssn_agent.capture.settings import Region
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.inference import image_writer
from ssn_agent.inference.crop import around, cropped
from ssn_agent.inference.keeping import is_kept, share_of
from ssn_agent.inference.settings import KeepSettings
from ssn_contract.messages import InvalidReason
from support.bundles import write_brightness_bundle
from support.disks import small_disk
from support.lanes import Lane

EPOCH = UUID("0b6c1d1e-8f0a-4b6e-9a53-5f0d4c1b2a39")
NOTHING = KeepSettings(fail=False, near=0, pass_share=0)
DARK = np.full((64, 64), 20, np.uint8)
SPOT = np.random.default_rng(0).integers(0, 40, (64, 64), np.uint8)
SPOT[8:16, 40:44] = 250


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_brightness_bundle(tmp_path / "brightness.ssn")


def read(path: Path) -> NDArray[Any]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(
    ("keep", "outcome", "score", "kept"),
    [
        (KeepSettings(), Outcome.FAIL, 0.99, True),
        (KeepSettings(), Outcome.PASS, 0.41, True),
        (KeepSettings(pass_share=0), Outcome.PASS, 0.39, False),
        (KeepSettings(fail=False), Outcome.FAIL, 0.99, False),
        (KeepSettings(fail=False), Outcome.FAIL, 0.59, True),
        (KeepSettings(near=0, pass_share=1), Outcome.PASS, 0.0, True),
        (KeepSettings(fail=False, pass_share=1), Outcome.FAIL, 0.99, False),
        (NOTHING, Outcome.PASS, 0.49, False),
    ],
)
def test_fails_scores_near_the_threshold_and_a_share_of_passes_are_kept(
    keep: KeepSettings, outcome: Outcome, score: float, *, kept: bool
) -> None:
    assert is_kept(keep, outcome, score, 0.5, EPOCH, 1) is kept


def test_the_share_of_passes_is_the_same_parts_after_a_restart_and_others_in_another_epoch() -> (
    None
):
    keep = KeepSettings(near=0, pass_share=0.1)
    parts = range(1, 10_001)

    def kept(epoch: UUID) -> set[int]:
        return {n for n in parts if is_kept(keep, Outcome.PASS, 0.1, 0.5, epoch, n)}

    assert 900 < len(kept(EPOCH)) < 1100
    assert kept(EPOCH) == kept(UUID(str(EPOCH)))
    assert len(kept(EPOCH) & kept(UUID(int=7))) < 200
    assert share_of(EPOCH, 1) == pytest.approx(0.9187387, abs=1e-6)  # on every machine, for good


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_part_of_a_frame_is_cropped_as_the_frame_is(pixel_format: PixelFormat) -> None:
    channels = pixel_format.channels
    shape = (40, 50) if channels == 1 else (40, 50, channels)
    frame = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    for x, y, width, height in ((0, 0, 50, 40), (7, 3, 20, 11), (6, 5, 44, 35), (49, 39, 1, 1)):
        region = Region(x=x, y=y, width=width, height=height)
        part, within = around(frame, pixel_format, region)
        if min(part.shape[:2]) >= 4 or not pixel_format.is_bayer:
            again = cropped(part.copy(), pixel_format, within)
            np.testing.assert_array_equal(again, cropped(frame, pixel_format, region))


@pytest.mark.parametrize(
    "pixel_format", [PixelFormat.Mono8, PixelFormat.BayerRG8, PixelFormat.RGB8, PixelFormat.BGRa8]
)
def test_a_fail_s_picture_is_pixel_by_pixel_what_the_model_saw(
    tmp_path: Path, runtime: Path, bundle: Path, pixel_format: PixelFormat
) -> None:
    roi = {"x": 7, "y": 3, "width": 50, "height": 41}
    lane = Lane(tmp_path, runtime, bundle=bundle, roi=roi)
    frame = SPOT if pixel_format.channels == 1 else np.stack([SPOT] * pixel_format.channels, -1)
    frame = np.ascontiguousarray(frame)
    frame[20:, 30:, ...] //= 2
    sequence = lane.frame(frame, pixel_format=pixel_format)
    result = lane.result(sequence)
    assert (result.outcome, result.image) == (Outcome.FAIL, True)
    assert result.region == (7, 3, 50, 41)
    lane.inference.close()
    expected = cropped(frame, pixel_format, Region.model_validate(roi))
    picture = read(lane.picture(sequence))
    np.testing.assert_array_equal(picture, expected)
    again = Lane(tmp_path, runtime / "again", bundle=bundle)
    assert again.result(again.frame(picture)).score == result.score
    again.inference.close()


def test_a_pass_far_from_the_threshold_and_a_picture_unfit_to_judge_are_not_kept(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, keep={"near": 0, "pass_share": 0})
    assert not lane.result(lane.frame(DARK)).image
    roi = {"x": 0, "y": 32, "width": 64, "height": 33}
    other = Lane(tmp_path, runtime / "other", bundle=bundle, roi=roi, keep={"pass_share": 1})
    result = other.result(other.frame(SPOT))
    assert (result.reason, result.image) == (InvalidReason.UNREADABLE, False)
    lane.inference.close()
    other.inference.close()
    assert not lane.settings.image_dir.exists()


def test_a_disk_that_does_not_keep_up_costs_pictures_and_neither_memory_nor_verdicts(
    tmp_path: Path,
    runtime: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    goes_on = threading.Event()

    def write(path: Path, data: bytes, *, synced: bool) -> None:
        assert goes_on.wait(20)
        write_atomically(path, data, synced=synced)

    monkeypatch.setattr(image_writer, "write_atomically", write)
    monkeypatch.setattr(image_writer, "MAX_BYTES", 3 * SPOT.nbytes)
    lane = Lane(tmp_path, runtime, bundle=bundle, heatmap="none")
    sequences = [lane.frame(SPOT) for _ in range(6)]
    results = {n: lane.result(n) for n in sequences}
    assert {result.outcome for result in results.values()} == {Outcome.FAIL}
    assert not any(lane.picture(n).exists() for n in sequences)
    promised = [n for n, result in results.items() if result.image]
    assert promised == sequences[:3]
    assert "the disk is too slow" in capsys.readouterr().out
    for _ in range(6):
        lane.frame(DARK)  # into the same slots
    goes_on.set()
    lane.inference.close()
    assert [n for n in sequences if lane.picture(n).exists()] == promised
    for sequence in promised:
        np.testing.assert_array_equal(read(lane.picture(sequence)), SPOT)


@pytest.mark.parametrize("places", [2, 3])
def test_heatmap_and_picture_of_one_verdict_both_fit_where_one_place_is_left(
    tmp_path: Path, runtime: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(image_writer, "write_atomically", lambda *_, **__: goes_on.wait(20))
    monkeypatch.setattr(image_writer, "MAX_WAITING", places)
    lane = Lane(tmp_path, runtime, bundle=bundle)
    results = [lane.result(lane.frame(SPOT)) for _ in range(5)]
    assert {result.outcome for result in results} == {Outcome.FAIL}
    assert places <= sum(r.heatmap + r.image for r in results) <= places + 2
    goes_on.set()
    lane.inference.close()


def test_on_a_full_disk_verdicts_go_on_without_their_pictures_and_the_log_says_so(
    tmp_path: Path, runtime: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "data", mib=2) as disk:
        lane = Lane(tmp_path, runtime, bundle=bundle)
        disk.fill()
        results = [lane.result(lane.frame(SPOT)) for _ in range(3)]
        lane.inference.close()
        assert {result.outcome for result in results} == {Outcome.FAIL}
        assert "image not written" in capsys.readouterr().out
        assert not list(lane.settings.image_dir.rglob("*.png"))
        disk.free()
        lane.inference.close()


def test_to_collect_is_to_keep_every_picture_and_to_judge_none(
    tmp_path: Path, runtime: Path
) -> None:
    roi = {"x": 7, "y": 3, "width": 50, "height": 41}
    lane = Lane(tmp_path, runtime, mode="collect", roi=roi)
    sequences = [lane.frame(frame) for frame in (SPOT, DARK, DARK)]
    results = [lane.result(sequence) for sequence in sequences]
    assert {(r.outcome, r.reason, r.image) for r in results} == {
        (Outcome.INVALID, InvalidReason.NO_MODEL, True)
    }
    late = lane.result(lane.frame(SPOT, deadline_s=0.0))
    assert (late.reason, late.image) == (InvalidReason.LATE, False)
    lane.inference.close()
    np.testing.assert_array_equal(read(lane.picture(sequences[0])), SPOT[3:44, 7:57])
    assert all(lane.picture(sequence).exists() for sequence in sequences)
    note = lane.journal.model_note()
    assert note is not None
    assert "collect" in note.message
