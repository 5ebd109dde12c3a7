"""Images and masks come in the network's size, or with an error that names the file."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.frames.pixels import read_image, to_network_input
from ssn_trainer.data.images import drop_blank_masks, load_input, load_mask
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import BlankMaskError, DataError


def write(path: Path, image: NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def sample(path: Path, mask: Path | None = None, label: Literal["good", "bad"] = "bad") -> Sample:
    kind = None if label == "good" else "crack"
    return Sample(path, path.name, label, kind, mask, "g", None, "0" * 64)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8))


def masked(tmp_path: Path, image: Path, mask: NDArray[np.uint8]) -> Sample:
    return sample(image, write(tmp_path / "a_mask.png", mask))


def test_the_network_sees_what_the_agent_would_show_it(image: Path) -> None:
    expected = to_network_input(read_image(image), 32, 48)
    assert np.array_equal(load_input(sample(image), 32, 48), expected)


def test_a_damaged_image_is_an_error_of_the_data(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.png: truncated"):
        load_input(sample(image), 32, 32)


def test_a_mask_keeps_its_place_and_share(tmp_path: Path, image: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[:30, 40:] = 255
    made = load_mask(masked(tmp_path, image, mask), 32, 32)
    assert made.dtype == bool
    assert made[:16, 16:].all()
    assert made.sum() == 16 * 16


@pytest.mark.parametrize("value", [1, 255])
def test_any_value_above_zero_marks_a_defect(tmp_path: Path, image: Path, value: int) -> None:
    mask = np.zeros((60, 80, 3), np.uint8)
    mask[10:20, 10:20, 2] = value
    assert load_mask(masked(tmp_path, image, mask), 60, 80).sum() == 100


@pytest.mark.parametrize("value", [1, 255, 65535])
@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_any_value_of_16_bits_above_zero_marks_a_defect(
    tmp_path: Path, image: Path, name: str, value: int
) -> None:
    mask = np.zeros((60, 80), np.uint16)
    mask[10:20, 10:20] = value
    assert cv2.imwrite(str(tmp_path / name), mask)
    assert load_mask(sample(image, tmp_path / name), 60, 80).sum() == 100


@pytest.mark.parametrize("size", [(60, 80), (30, 40), (20, 16), (120, 160)])
def test_masks_are_taken_by_nearest_neighbour(
    tmp_path: Path, image: Path, size: tuple[int, int]
) -> None:
    blocks = np.random.default_rng(1).random((6, 8)) > 0.5
    mask = np.kron(blocks, np.full((10, 10), 255)).astype(np.uint8)
    expected = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
    assert np.array_equal(load_mask(masked(tmp_path, image, mask), *size), expected)


def test_a_good_image_has_an_empty_mask(image: Path) -> None:
    assert not load_mask(sample(image, label="good"), 16, 24).any()
    assert load_mask(sample(image, label="good"), 16, 24).shape == (16, 24)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path, image: Path) -> None:
    wrong = masked(tmp_path, image, np.full((80, 60), 255, np.uint8))
    with pytest.raises(DataError, match=r"a_mask\.png: 60 x 80 pixels, .* has 80 x 60"):
        load_mask(wrong, 32, 32)


def test_a_mask_that_marks_nothing_is_refused(tmp_path: Path, image: Path) -> None:
    with pytest.raises(BlankMaskError, match="marks no pixel"):
        load_mask(masked(tmp_path, image, np.zeros((60, 80), np.uint8)), 32, 32)


def test_a_bad_image_whose_mask_marks_nothing_counts_as_one_without_a_mask(
    tmp_path: Path, image: Path
) -> None:
    blank = masked(tmp_path, image, np.zeros((60, 80), np.uint8))
    drawn, names = drop_blank_masks([blank, sample(image, label="good")])
    assert [s.mask for s in drawn] == [None, None]
    assert names == (blank.name,)


def test_a_bad_image_without_a_mask_is_refused_where_one_is_needed(image: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: has no mask"):
        load_mask(sample(image), 32, 32)


def test_a_damaged_mask_is_named(tmp_path: Path, image: Path) -> None:
    broken = tmp_path / "a_mask.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a_mask\.png: not an image"):
        load_mask(sample(image, broken), 32, 32)


def test_a_defect_that_falls_between_the_pixels_keeps_one(tmp_path: Path, image: Path) -> None:
    thin = np.zeros((60, 80), np.uint8)
    thin[7, 10:40] = 255  # a line that every eighth row misses
    thin[30:50, 60:70] = 255
    mask = load_mask(masked(tmp_path, image, thin), 8, 10)
    assert mask[:2].sum() == 1
    assert mask[4:].sum() > 1
