"""What good images look like to the model: scores and simple statistics of the training images."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_trainer.data.images import load_input
from ssn_trainer.data.samples import Sample

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def describe(
    good: Sequence[Sample], scores: NDArray[np.float32], height: int, width: int
) -> dict[str, object]:
    """Return the content of `reference.json` for good training images and their raw scores [N].

    Images are measured at the network's input size, in gray: brightness is their mean, contrast
    their standard deviation, sharpness the variance of their Laplacian.
    """
    rows = []
    for sample in good:
        gray = cv2.cvtColor(load_input(sample, height, width), cv2.COLOR_RGB2GRAY)
        laplacian = cv2.Laplacian(gray, cv2.CV_64F)
        rows.append((gray.mean(), gray.std(), laplacian.var()))
    brightness, contrast, sharpness = np.array(rows, np.float64).T
    return {
        "images": len(good),
        "brightness": _summary(brightness),
        "contrast": _summary(contrast),
        "sharpness": _summary(sharpness),
        "score": _summary(scores.astype(np.float64)),
    }


def _summary(values: NDArray[np.float64]) -> dict[str, object]:
    quantiles = np.quantile(values, _QUANTILES)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "quantiles": {str(q): float(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
    }
