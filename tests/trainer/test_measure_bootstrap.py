"""Intervals tell how far a figure may lie from what other parts would give."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from ssn_trainer.measure import bootstrap
from ssn_trainer.measure.bootstrap import bootstrap_intervals, paired_auroc
from ssn_trainer.measure.metrics import (
    IMAGE_METRICS,
    METRICS,
    PIXEL_METRICS,
    aupro,
    auroc,
    average_precision,
)
from ssn_trainer.measure.pixels import PixelTally

SIDE = 24


def draw(parts: int, each: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Images of parts, `each` a part: every third part is bad; photographs of one part agree."""
    rng = np.random.default_rng(seed)
    bad = np.arange(parts) % 3 == 0
    scores = 1.2 * bad + rng.normal(0, 1, parts)
    return np.repeat(bad, each), np.repeat(scores, each) + rng.normal(0, 0.05, parts * each)


def names(images: int, each: int = 1) -> list[str]:
    return [f"part{i // each}" for i in range(images)]


def tally(labels: NDArray[np.bool_], groups: list[str], seed: int) -> PixelTally:
    """Maps with a brighter square on the bad images."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:10, 5:15] = True
    maps = rng.normal(0, 1, (len(labels), SIDE, SIDE)).astype(np.float32)
    maps[labels] += rng.normal(1, 0.7, (labels.sum(), 1, 1)).astype(np.float32) * mask
    bad = np.flatnonzero(labels)
    counted = PixelTally([mask] * bad.size, [maps[i] for i in bad], [groups[i] for i in bad])
    for i in np.flatnonzero(~labels):
        counted.add_good(maps[i], groups[i])
    return counted


def test_every_figure_gets_an_interval_and_the_same_one_from_the_same_seed() -> None:
    labels, scores = draw(60, 1, 0)
    pixels = tally(labels, names(60), 0)
    found = bootstrap_intervals(labels, scores, names(60), pixels)
    assert set(found) == set(METRICS)
    assert found == bootstrap_intervals(labels, scores, names(60), pixels)
    assert found != bootstrap_intervals(labels, scores, names(60), pixels, seed=1)
    measured = pixels.metrics() | {"i_auroc": float(roc_auc_score(labels, scores))}
    for name, interval in found.items():
        assert interval is not None
        assert 0 <= interval[0] < interval[1] <= 1
        assert name not in measured or interval[0] < (measured[name] or 0) < interval[1]


def test_the_resampled_figures_equal_scikit_learn_on_the_images_that_were_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 150)
    rng = np.random.default_rng(3)
    labels, scores = draw(20, 2, 3)
    scores = np.round(scores, 1)  # ties
    weights = rng.multinomial(20, np.full(20, 0.05), bootstrap.RESAMPLES).astype(float)
    weights[:, [0, 1]] += 1  # both classes in each
    monkeypatch.setattr(bootstrap, "_draw", lambda *_: weights)
    expected: dict[str, list[float]] = {name: [] for name in IMAGE_METRICS}
    _, part = np.unique(names(40, 2), return_inverse=True)
    for row in weights[:, part]:
        drawn = np.repeat(np.arange(40), row.astype(int))
        these, those = labels[drawn], scores[drawn]
        expected["i_auroc"].append(roc_auc_score(these, those))
        expected["ap_det"].append(average_precision_score(these, those))
        cuts = np.unique(those)
        hits = [(these & (those >= cut)).sum() for cut in cuts]
        failed = [(those >= cut).sum() for cut in cuts]
        expected["f1_max"].append(
            max(2 * h / (f + these.sum()) for h, f in zip(hits, failed, strict=True))
        )
    found = bootstrap_intervals(labels, scores, names(40, 2), None)
    for name, values in expected.items():
        assert found[name] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-9)


def test_the_interval_holds_the_true_figure_about_95_times_in_a_hundred() -> None:
    labels, scores = draw(300_000, 1, 99)
    truth = roc_auc_score(labels, scores)
    held = 0
    for seed in range(100):
        labels, scores = draw(90, 1, seed)
        interval = bootstrap_intervals(labels, scores, names(90), None)["i_auroc"]
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert 88 <= held <= 99


def test_more_photographs_of_the_same_parts_do_not_narrow_the_interval() -> None:
    widths = []
    for each in (1, 8):
        labels, scores = draw(45, each, 5)
        interval = bootstrap_intervals(labels, scores, names(45 * each, each), None)["i_auroc"]
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[1] == pytest.approx(widths[0], rel=0.25)


@pytest.mark.parametrize("bad", [2, 3])
def test_of_fewer_than_three_parts_of_a_class_no_interval_is_told(bad: int) -> None:
    labels = np.arange(40) < bad
    scores = np.random.default_rng(0).random(40)
    found = bootstrap_intervals(labels, scores, names(40), tally(labels, names(40), 0))
    assert all((interval is None) == (bad < 3) for interval in found.values())


def test_a_resample_without_a_class_is_drawn_again() -> None:
    has = np.zeros((60, 2), bool)
    has[:3, 0] = has[3:, 1] = True
    drawn = bootstrap._draw(has, np.random.default_rng(0))
    assert drawn is not None
    assert (drawn.sum(axis=1) == 60).all()
    assert ((drawn @ has) > 0).all()


def test_the_coarser_counts_for_resampling_give_the_exact_pixel_figures_closely() -> None:
    labels = np.arange(30) % 2 == 0
    pixels = tally(labels, names(30), 1)
    defect, share, clear = pixels.by_group().sum(axis=0).astype(float)
    exact = pixels.metrics()
    coarse = {
        "p_auroc": auroc(defect, clear),
        "aupro": aupro(share, clear),
        "ap_loc": average_precision(defect, clear),
    }
    assert share.sum() == pytest.approx(15)  # one region a bad image
    for name in PIXEL_METRICS:
        assert coarse[name] == pytest.approx(exact[name], abs=1e-3)


def test_a_paired_interval_shows_a_rise_that_two_intervals_apart_would_hide() -> None:
    labels, scores = draw(80, 2, 0)
    better = scores + 0.4 * labels
    rise, interval = paired_auroc(labels, scores, better, names(160, 2))
    assert rise == pytest.approx(roc_auc_score(labels, better) - roc_auc_score(labels, scores))
    assert interval is not None
    assert 0 < interval[0] < rise < interval[1]
    apart = [
        bootstrap_intervals(labels, s, names(160, 2), None)["i_auroc"] for s in (scores, better)
    ]
    assert apart[0] is not None
    assert apart[1] is not None
    assert apart[1][0] < apart[0][1]


def test_the_same_scores_have_no_rise_and_few_parts_no_interval() -> None:
    labels, scores = draw(60, 1, 0)
    assert paired_auroc(labels, scores, scores, names(60)) == (0.0, (0.0, 0.0))
    assert paired_auroc(labels, scores, -scores, ["one"] * 60)[1] is None


def test_a_paired_interval_of_many_images_takes_little_memory() -> None:
    labels, scores = draw(200, 30, 0)
    tracemalloc.start()
    try:
        paired_auroc(labels, scores, scores + 0.4 * labels, names(6000, 30))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 50 * 2**20  # all resamples at once: 230 MiB
