"""95 % intervals by resampling groups: photographs of one part are not independent of each other.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), the
group being the unit that is drawn. A resample that lacks one class is drawn again. Where nothing
was got wrong no resample holds an error either: an interval from 1 to 1 does not prove perfection.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_trainer.measure.metrics import (
    IMAGE_METRICS,
    PIXEL_METRICS,
    Counts,
    aupro,
    auroc,
    average_precision,
    f1_max,
)
from ssn_trainer.measure.pixels import PixelTally

RESAMPLES = 1000
FEWEST_GROUPS = 3
"""Groups with a class (good and bad images, defect and clear pixels) that an interval wants."""

Interval = tuple[float, float]
_TAILS = (2.5, 97.5)
_CHUNK = 50
"""Resamples that are worked on at once."""


def bootstrap_intervals(
    labels: NDArray[np.bool_],
    scores: NDArray[Any],
    groups: Sequence[str],
    pixels: PixelTally | None,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return the 95 % interval of every figure; None where fewer than 3 groups have a class.

    labels: bool [N], True for bad; scores: [N], higher is worse; groups: [N], which part an image
    shows; pixels: the tally of the maps of these images. Same seed, same intervals.
    """
    intervals: dict[str, Interval | None] = dict.fromkeys(IMAGE_METRICS + PIXEL_METRICS)
    intervals.update(_of_images(labels, scores, groups, np.random.default_rng(seed)))
    if pixels is not None:
        intervals.update(_of_pixels(pixels.by_group(), np.random.default_rng(seed)))
    return intervals


def paired_auroc(
    labels: NDArray[np.bool_],
    before: NDArray[Any],
    after: NDArray[Any],
    groups: Sequence[str],
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """Return by how much I-AUROC rises from one scoring of images to another, and its interval.

    Each resample of the groups is scored both ways, so what is hard for both cancels out. All [N],
    as in `bootstrap_intervals`, both classes among them; the interval is None of too few groups.
    """
    group, drawn = _resamples(labels, groups, np.random.default_rng(seed))
    once = np.ones((1, labels.size))
    rise = float(np.diff([_aurocs(labels, scores, once)[0] for scores in (before, after)])[0])
    if drawn is None:
        return rise, None
    rises = []
    for start in range(0, RESAMPLES, _CHUNK):
        weights = drawn[start : start + _CHUNK, group]
        rises.append(_aurocs(labels, after, weights) - _aurocs(labels, before, weights))
    low, high = np.percentile(np.concatenate(rises), _TAILS)
    return rise, (float(low), float(high))


def _of_images(
    labels: NDArray[np.bool_],
    scores: NDArray[Any],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, Interval]:
    group, drawn = _resamples(labels, groups, rng)
    if drawn is None:
        return {}
    figures = []
    for start in range(0, RESAMPLES, _CHUNK):
        counts = _by_level(labels, scores, drawn[start : start + _CHUNK, group])
        figures.append([f(*counts) for f in (auroc, average_precision, f1_max)])
    return _percentiles(IMAGE_METRICS, figures)


def _resamples(
    labels: NDArray[np.bool_], groups: Sequence[str], rng: np.random.Generator
) -> tuple[NDArray[np.intp], Counts | None]:
    """Each image's group [N], and how often each resample holds each group; see `_draw`."""
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = [np.bincount(group[kind], minlength=names.size) for kind in (labels, ~labels)]
    return group, _draw(np.stack(counts, axis=1).astype(bool), rng)


def _aurocs(labels: NDArray[np.bool_], scores: NDArray[Any], weights: Counts) -> Counts:
    """I-AUROC by resample: weights [resamples, N] to [resamples]."""
    return auroc(*_by_level(labels, scores, weights))


def _by_level(
    labels: NDArray[np.bool_], scores: NDArray[Any], weights: Counts
) -> tuple[Counts, Counts]:
    """Counts of bad and of good images by score: weights [resamples, N] to [resamples, levels]."""
    order = np.argsort(scores, kind="stable")
    bad, ordered = labels[order], scores[order]
    levels = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    positive = np.add.reduceat(weights[:, order] * bad, levels, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~bad, levels, axis=1)
    return positive, negative


def _of_pixels(counts: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Interval]:
    """counts: [groups, 3, levels], as `PixelTally.by_group` gives them."""
    drawn = _draw(np.any(counts[:, (0, 2)], axis=2), rng)
    if drawn is None:
        return {}
    figures = []
    for start in range(0, RESAMPLES, _CHUNK):
        weights = drawn[start : start + _CHUNK].astype(np.float32)
        summed = np.tensordot(weights, counts, axes=1).astype(np.float64)
        defect, share, clear = np.moveaxis(summed, 1, 0)  # [resamples, levels] each
        figures.append(
            [auroc(defect, clear), aupro(share, clear), average_precision(defect, clear)]
        )
    return _percentiles(PIXEL_METRICS, figures)


def _draw(has: NDArray[np.bool_], rng: np.random.Generator) -> Counts | None:
    """How often each resample holds each group, [RESAMPLES, groups]; None of too few groups.

    has: bool [groups, classes]; a resample in which a class is missing is drawn again.
    """
    groups = has.shape[0]
    if (has.sum(axis=0) < FEWEST_GROUPS).any():
        return None
    drawn = np.zeros((RESAMPLES, groups))
    missing = np.arange(RESAMPLES)
    while missing.size:
        drawn[missing] = rng.multinomial(groups, np.full(groups, 1 / groups), missing.size)
        missing = missing[(drawn[missing] @ has == 0).any(axis=1)]
    return drawn


def _percentiles(names: Sequence[str], figures: list[list[Counts]]) -> dict[str, Interval]:
    """figures: chunks of [figures][resamples]."""
    values = np.concatenate(figures, axis=1)  # [figures, RESAMPLES]
    low, high = np.percentile(values, _TAILS, axis=1)
    return {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}
