"""The published figures: detection per image, and their arithmetic over counts for pixels.

The figures of the images come from scikit-learn. Those of the pixels, and those of resampled parts,
are counted here: libraries either place pixels on a grid of thresholds (torchmetrics with
`thresholds`, anomalib's AUPRO) or sort all of them at once, and none takes counts, which is what
lets maps be dropped one by one and parts be drawn again by weight. The tests hold ours against
scikit-learn, and the per-region overlap, which scikit-learn does not have, against its definition.

Counts are given by level: values of one level are ties, and levels rise along the last axis.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ssn_trainer.errors import TrainingError

IMAGE_METRICS = ("i_auroc", "ap_det", "f1_max")
PIXEL_METRICS = ("p_auroc", "aupro", "ap_loc")
METRICS = IMAGE_METRICS + PIXEL_METRICS

AUPRO_LIMIT = 0.3
"""The false-positive rate up to which the per-region overlap is integrated."""

Counts = NDArray[np.float64]


def image_metrics(labels: NDArray[np.bool_], scores: NDArray[Any]) -> dict[str, float | None]:
    """Return every figure of IMAGE_METRICS (bad is positive); None where one class is missing.

    labels: bool [N], True for bad; scores: [N], higher is worse. `f1_max` is the F1 of bad at the
    threshold that is best for these very images. Raises TrainingError where a score is not a
    number.
    """
    refuse_nan(scores)
    if labels.all() or not labels.any():
        return dict.fromkeys(IMAGE_METRICS)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return {
        "i_auroc": float(roc_auc_score(labels, scores)),
        "ap_det": float(average_precision_score(labels, scores)),
        "f1_max": float(f1.max()),
    }


def auroc(positive: Counts, negative: Counts) -> Counts:
    """Area under the ROC curve: counts [..., levels] to [...]; ties count half."""
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = positive.sum(-1) * negative.sum(-1)
    return np.asarray((positive * below).sum(-1) / pairs)


def average_precision(positive: Counts, negative: Counts) -> Counts:
    """Mean over the positives of the precision at their level: counts [..., levels] to [...]."""
    hits, alarms = _at_or_above(positive), _at_or_above(negative)
    precision = hits / np.maximum(hits + alarms, 1)
    return np.asarray((positive * precision).sum(-1) / positive.sum(-1))


def f1_max(positive: Counts, negative: Counts) -> Counts:
    """F1 at the best of the levels: counts [..., levels] to [...]."""
    hits, alarms = _at_or_above(positive), _at_or_above(negative)
    return np.asarray((2 * hits / (hits + alarms + positive.sum(-1, keepdims=True))).max(-1))


def aupro(share: Counts, negative: Counts) -> Counts:
    """Area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3.

    share: how much of the regions lies in each level, each region being 1 [..., levels]; negative:
    counts [..., levels]. Linear between the points (Bergmann et al., MVTec AD, IJCV 2021, section
    5.2.2).
    """
    total = negative.sum(-1, keepdims=True)
    after = _at_or_above(negative) / total
    before = (_at_or_above(negative) - negative) / total
    # Within a level the curve climbs from `before` to `after`; what is past the limit is cut off.
    end = np.minimum(after, AUPRO_LIMIT)
    width = after - before
    reached = np.divide(end - before, width, out=np.ones_like(width), where=width > 0)
    area = np.where(before < AUPRO_LIMIT, (end - before) * reached / 2 + AUPRO_LIMIT - end, 0.0)
    return np.asarray((share * area).sum(-1) / share.sum(-1) / AUPRO_LIMIT)


def refuse_nan(values: NDArray[Any]) -> None:
    """Raise TrainingError where a score or a map value is not a finite number."""
    if not np.isfinite(values).all():
        msg = "the model gave scores that are no numbers; train it anew, with a lower rate"
        raise TrainingError(msg)


def _at_or_above(counts: Counts) -> Counts:
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]
