"""What good images look like: to the agent, which checks pictures by it, and to the model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssn_agent.bundles.reference import Reference, Scores
from ssn_agent.frames.pixels import to_network_input
from ssn_agent.inference.fitness import Measured, describe_pictures, measure
from ssn_trainer.data.images import load_image
from ssn_trainer.data.samples import Sample

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def describe(
    good: Sequence[Sample],
    scores: NDArray[np.float32],
    held_out: NDArray[np.float32],
    height: int,
    width: int,
) -> dict[str, object]:
    """Return the content of `reference.json` for good training images and their raw scores [N].

    `held_out` are the raw scores [M] of good images that were not trained on. The images are
    measured at the network's input size, by the agent's own `measure`. Raises DataError where one
    cannot be read.
    """
    measured = [_measure(sample, height, width) for sample in good]
    pictures = describe_pictures(measured, [sample.group for sample in good])
    reference = Reference(pictures=pictures, scores=_deciles(held_out)).model_dump(mode="json")
    return {**reference, "score": _summary(scores.astype(np.float64))}


def _measure(sample: Sample, height: int, width: int) -> Measured:
    image = load_image(sample)
    return measure(to_network_input(image, height, width), *image.shape[:2])


def _deciles(scores: NDArray[np.float32]) -> Scores | None:
    if not len(scores):
        return None
    deciles = np.quantile(scores.astype(np.float64), np.linspace(0, 1, 11))
    return Scores(images=len(scores), deciles=tuple(float(v) for v in np.sort(deciles)))


def _summary(values: NDArray[np.float64]) -> dict[str, object]:
    quantiles = np.quantile(values, _QUANTILES)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "quantiles": {str(q): float(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
    }
