"""The published figures equal their definitions."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ssn_trainer.errors import TrainingError
from ssn_trainer.measure import pixels
from ssn_trainer.measure.metrics import IMAGE_METRICS, PIXEL_METRICS, image_metrics
from ssn_trainer.measure.pixels import PixelTally


def tally(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> PixelTally:
    """Count images [N, H, W] as the trainer does: those with a defect first, each its own group."""
    names = [str(i) for i in range(len(masks))]
    bad = [i for i, mask in enumerate(masks) if mask.any()]
    counted = PixelTally([masks[i] for i in bad], [maps[i] for i in bad], [names[i] for i in bad])
    for i in sorted(set(range(len(masks))) - set(bad)):
        counted.add_good(maps[i], names[i])
    return counted


def pixel_metrics(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    return tally(masks, maps).metrics()


def slow_aupro(masks: NDArray[np.bool_], maps: NDArray[np.float32], limit: float = 0.3) -> float:
    """Area under the per-region overlap by its definition: one threshold after the other."""
    regions = []
    for mask in masks:
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions.append([labels == i for i in range(1, count + 1)])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        rates.append((found & ~masks).sum() / (~masks).sum())
        overlap = [found[i][r].mean() for i, rs in enumerate(regions) for r in rs]
        overlaps.append(float(np.mean(overlap)))
    inside = [r for r in rates if r <= limit]
    kept = overlaps[: len(inside)]
    if inside[-1] < limit:
        after = len(inside)
        step = (limit - inside[-1]) / (rates[after] - inside[-1])
        kept = [*kept, kept[-1] + step * (overlaps[after] - kept[-1])]
        inside = [*inside, limit]
    widths, heights = np.diff(inside), (np.array(kept[1:]) + kept[:-1]) / 2
    return float((widths * heights).sum()) / limit


SHAPE = (3, 8, 9)
masks_of = hnp.arrays(bool, SHAPE, elements=st.booleans())
few_values = st.integers(0, 6).map(float)
any_values = st.floats(-1e6, 1e6, width=32)
maps_of = st.one_of(
    hnp.arrays(np.float32, SHAPE, elements=few_values),
    hnp.arrays(np.float32, SHAPE, elements=any_values),
)


@settings(deadline=None)
@given(masks_of, maps_of, st.booleans())
def test_pixel_figures_equal_scikit_learn_and_the_slow_definition(
    masks: NDArray[np.bool_], maps: NDArray[np.float32], good_one: bool
) -> None:
    masks[0, 0, 0], masks[0, -1, -1] = True, False
    masks[1] &= not good_one
    found = pixel_metrics(masks, maps)
    assert found["p_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    expected = average_precision_score(masks.ravel(), maps.ravel())
    assert found["ap_loc"] == pytest.approx(expected, abs=1e-9)
    assert found["aupro"] == pytest.approx(slow_aupro(masks, maps), abs=1e-9)


def test_with_too_many_values_to_keep_the_figures_are_off_by_no_more_than_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 100, 100), bool)
    masks[0, 10:60, 20:80] = masks[1, 5:9, 5:9] = masks[1, 50:80, 50:80] = True
    maps = (rng.normal(0, 1, masks.shape) + 1.5 * masks).astype(np.float32)
    exact = pixel_metrics(masks, maps)
    monkeypatch.setattr(pixels, "EXACT_VALUES", 256)
    thinned = pixel_metrics(masks, maps)
    assert thinned != exact
    assert thinned == {name: pytest.approx(exact[name], abs=1 / 256) for name in PIXEL_METRICS}


def test_every_region_counts_the_same_whatever_its_size() -> None:
    masks = np.zeros((1, 40, 40), bool)
    masks[0, 2:4, 2:4] = True
    masks[0, 10:30, 10:30] = True
    maps = np.zeros((1, 40, 40), np.float32)
    maps[0, 2:4, 2:4] = 1
    small_found = pixel_metrics(masks, maps)["aupro"]
    assert small_found is not None
    maps = np.zeros((1, 40, 40), np.float32)
    maps[0, 10:30, 10:30] = 1
    assert pixel_metrics(masks, maps)["aupro"] == pytest.approx(small_found, abs=1e-9)
    assert small_found > 0.5


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    masks = np.zeros((1, 20, 20), bool)
    masks[0, 5, 5] = masks[0, 6, 6] = masks[0, 15, 15] = True
    maps = np.zeros((1, 20, 20), np.float32)
    maps[0, 15, 15] = 1
    # One of two regions is found at no false alarm; the other is drawn in along the ties at 0.
    assert pixel_metrics(masks, maps)["aupro"] == pytest.approx(0.5 + 0.5 * 0.3 / 2, abs=1e-9)


def test_perfect_maps_score_one() -> None:
    masks = np.random.default_rng(0).random((2, 30, 30)) > 0.9
    found = pixel_metrics(masks, masks.astype(np.float32))
    assert found == {name: pytest.approx(1.0) for name in PIXEL_METRICS}


def test_without_a_clear_pixel_there_is_no_figure() -> None:
    found = pixel_metrics(np.ones((2, 8, 8), bool), np.zeros((2, 8, 8), np.float32))
    assert found == dict.fromkeys(PIXEL_METRICS)


def best_f1(labels: Sequence[bool], scores: Sequence[float]) -> float:
    return max(float(f1_score(labels, np.array(scores) >= cut)) for cut in set(scores))


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(2, 20))
def test_image_figures_equal_scikit_learn(data: st.DataObject, n: int) -> None:
    labels = np.array([True, False, *data.draw(st.lists(st.booleans(), min_size=n, max_size=n))])
    scores = np.array(data.draw(st.lists(any_values, min_size=n + 2, max_size=n + 2)))
    found = image_metrics(labels, scores)
    assert found["i_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["ap_det"] == pytest.approx(average_precision_score(labels, scores))
    assert found["f1_max"] == pytest.approx(best_f1(labels.tolist(), scores.tolist()))


@pytest.mark.parametrize("value", [True, False])
def test_of_one_class_alone_there_is_no_image_figure(value: bool) -> None:
    assert image_metrics(np.full(5, value), np.arange(5.0)) == dict.fromkeys(IMAGE_METRICS)


def test_values_that_are_no_numbers_are_an_error_not_a_figure() -> None:
    bad = np.array([0.1, np.nan], np.float32)
    with pytest.raises(TrainingError, match="no numbers"):
        image_metrics(np.array([True, False]), bad)
    for mask in ([[True, False]], [[False, True]]):
        with pytest.raises(TrainingError, match="no numbers"):
            pixel_metrics(np.array([mask]), bad[None, None])
