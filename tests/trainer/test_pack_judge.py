"""Images are judged in their order, and their pixels counted where it is known what they show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from ssn_trainer.data.images import load_input, load_mask
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.pack.judge import figures, judge

from .conftest import SIZE


def brightness(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score as a network does: the brighter a pixel, the worse; an image by its mean."""
    maps = inputs.mean(axis=3, dtype=np.float32)  # [N, H, W, 3] -> [N, H, W]
    return maps.mean(axis=(1, 2)), maps


@pytest.fixture(scope="module")
def samples(plates: Path) -> list[Sample]:
    """Good and bad images by turns, every other bad one without a mask."""
    loaded = load(plates, ".*").samples
    good = [s for s in loaded if s.label == "good"][:11]
    bad = [s for s in loaded if s.label == "bad"][:11]
    bad = [replace(s, mask=s.mask if i % 2 else None) for i, s in enumerate(bad)]
    return [s for pair in zip(good, bad, strict=True) for s in pair]


def test_results_are_in_the_order_of_the_images(samples: list[Sample]) -> None:
    steps: list[int] = []
    judged = judge(brightness, samples, SIZE, SIZE, steps.append, pixels=True)
    inputs = np.stack([load_input(s, SIZE, SIZE) for s in samples])
    scores, maps = brightness(inputs)
    np.testing.assert_array_equal(judged.scores, scores)
    np.testing.assert_array_equal(judged.peaks, maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(judged.of("bad"), [s.label == "bad" for s in samples])
    assert sum(steps) == len(samples)


def test_bad_images_without_a_mask_are_left_out_of_the_pixel_figures(
    samples: list[Sample],
) -> None:
    found = figures(judge(brightness, samples, SIZE, SIZE, lambda _: None, pixels=True))
    known = [s for s in samples if s.label == "good" or s.mask]
    masks = np.stack([load_mask(s, SIZE, SIZE) for s in known]).ravel()
    maps = brightness(np.stack([load_input(s, SIZE, SIZE) for s in known]))[1].ravel()
    assert found.values["p_auroc"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-9)
    assert found.values["ap_loc"] == pytest.approx(average_precision_score(masks, maps), abs=1e-9)


def test_without_pixel_figures_no_mask_is_opened(samples: list[Sample], tmp_path: Path) -> None:
    missing = [replace(s, mask=tmp_path / "none.png") for s in samples if s.label == "bad"]
    judged = judge(brightness, missing, SIZE, SIZE, lambda _: None)
    assert judged.pixels is None


def test_of_no_image_there_is_no_figure_and_nothing_to_remark() -> None:
    found = figures(judge(brightness, (), SIZE, SIZE, lambda _: None, pixels=True))
    assert set(found.values.values()) == {None}
    assert set(found.intervals.values()) == {None}
    assert found.remark is None
