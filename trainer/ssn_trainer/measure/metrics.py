"""The published figures: detection per image, localisation over the pooled pixels.

Pixel measures need no threshold grid. Every defect pixel is placed among the sorted scores of the
defect-free pixels, which gives the exact areas in one sort and little memory.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from ssn_trainer.errors import TrainingError

AUPRO_LIMIT = 0.3
"""The false-positive rate up to which the per-region overlap is integrated."""


def image_metrics(labels: NDArray[np.bool_], scores: NDArray[Any]) -> dict[str, float | None]:
    """Return `i_auroc` and `ap_det` (bad is positive); None where one class is missing.

    labels: bool [N], True for bad; scores: [N], higher is worse. Raises TrainingError where a
    score is not a number.
    """
    _refuse_nan(scores)
    if labels.all() or not labels.any():
        return {"i_auroc": None, "ap_det": None}
    return {
        "i_auroc": float(roc_auc_score(labels, scores)),
        "ap_det": float(average_precision_score(labels, scores)),
    }


def pixel_metrics(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    """Return `p_auroc`, `aupro` and `ap_loc`, pooled over all pixels of all images.

    masks: bool [N, H, W], True on defects; maps: float32 [N, H, W], higher is worse. Leave out bad
    images without a mask. None where no pixel, or every pixel, is a defect's. `aupro` is the area
    under the per-region overlap (8-connected regions, each of equal weight) against the
    false-positive rate up to 0.3, divided by 0.3 (Bergmann et al., MVTec AD, IJCV 2021, section
    5.2.2), linear between the points. Raises TrainingError where a map value is not a number.
    """
    _refuse_nan(maps)
    if masks.all() or not masks.any():
        return {"p_auroc": None, "aupro": None, "ap_loc": None}
    negatives = np.sort(maps[~masks])  # [number of defect-free pixels]
    positives = maps[masks]  # [number of defect pixels], image by image and row by row
    order = np.argsort(positives)[::-1]
    positives, weights = positives[order], _region_weights(masks)[order]
    above = negatives.size - np.searchsorted(negatives, positives, side="right")
    at_or_above = negatives.size - np.searchsorted(negatives, positives, side="left")
    before, after = above / negatives.size, at_or_above / negatives.size
    return {
        "p_auroc": float(1 - (before + after).mean() / 2),
        "aupro": float((weights * _area_from(before, after)).sum() / AUPRO_LIMIT),
        "ap_loc": _average_precision(positives, at_or_above),
    }


def _region_weights(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each defect pixel, in row-major order, its share in the mean overlap."""
    sizes = []
    for mask in masks:
        if mask.any():
            regions, _ = ndimage.label(mask, structure=np.ones((3, 3), int))
            sizes.append((regions[mask], np.bincount(regions[mask])))
    count = sum(len(size) - 1 for _, size in sizes)
    return np.concatenate([1 / (count * size[region]) for region, size in sizes])


def _area_from(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area, up to the limit, under a curve that climbs from 0 to 1 between two rates."""
    end = np.minimum(after, AUPRO_LIMIT)
    width = after - before
    reached = np.divide(end - before, width, out=np.ones_like(width), where=width > 0)
    ramp = (end - before) * reached / 2
    return np.where(before < AUPRO_LIMIT, ramp + AUPRO_LIMIT - end, 0.0)


def _average_precision(positives: NDArray[np.float32], negatives_at: NDArray[np.intp]) -> float:
    """Mean precision over the defect pixels, those of one score counted together."""
    # With equal scores all share the precision at the last of them.
    last = np.searchsorted(-positives, -positives, side="right")
    return float((last / (last + negatives_at)).mean())


def _refuse_nan(values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        msg = "the model gave scores that are no numbers; train it anew, with a lower rate"
        raise TrainingError(msg)
