"""Images to raw scores and metrics, through the arithmetic that the agent serves with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_trainer.data.images import load_input, load_mask
from ssn_trainer.data.samples import Sample
from ssn_trainer.measure.metrics import image_metrics, pixel_metrics

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""uint8 [N, H, W, 3] to raw scores [N] and raw maps [N, H, W]: `Scorer.score_inputs`."""

METRICS = ("i_auroc", "ap_det", "p_auroc", "aupro", "ap_loc")
_BATCH = 4


@dataclass(frozen=True)
class Judged:
    """Raw results of some images, in their order."""

    samples: Sequence[Sample]
    scores: NDArray[np.float32]
    """[N]"""
    maps: NDArray[np.float32]
    """[N, H, W]"""

    def scores_of(self, label: str) -> NDArray[np.float32]:
        """Return the scores of the images with that label, [M]."""
        return self.scores[[s.label == label for s in self.samples]]


def judge(
    run: Run, samples: Sequence[Sample], height: int, width: int, advance: Callable[[int], None]
) -> Judged:
    """Score `samples` at the network's size; `advance` is told how many are done.

    Raises DataError for an unreadable image, EngineError where the engine fails.
    """
    scores = np.empty(len(samples), np.float32)
    maps = np.empty((len(samples), height, width), np.float32)
    for part, batch_scores, batch_maps in _run_all(run, samples, height, width, advance):
        scores[part], maps[part] = batch_scores, batch_maps
    return Judged(samples, scores, maps)


def score_only(
    run: Run, samples: Sequence[Sample], height: int, width: int, advance: Callable[[int], None]
) -> NDArray[np.float32]:
    """Return raw scores [N], as `judge` does, without holding the maps in memory."""
    scores = np.empty(len(samples), np.float32)
    for part, batch_scores, _ in _run_all(run, samples, height, width, advance):
        scores[part] = batch_scores
    return scores


def _run_all(
    run: Run, samples: Sequence[Sample], height: int, width: int, advance: Callable[[int], None]
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        scores, maps = run(np.stack([load_input(s, height, width) for s in batch]))
        yield slice(start, start + len(batch)), scores, maps
        advance(len(batch))


def metrics(judged: Judged) -> dict[str, float | None]:
    """Return every figure of METRICS; None where it cannot be told (one class, no masks).

    Bad images without a mask are left out of the pixel measures. Raises DataError for a mask that
    does not fit its image.
    """
    labels = np.array([s.label == "bad" for s in judged.samples])
    figures: dict[str, float | None] = dict.fromkeys(METRICS)
    if len(labels):
        figures.update(image_metrics(labels, judged.scores))
    height, width = judged.maps.shape[1:]
    if any(s.mask for s in judged.samples):
        known = [i for i, s in enumerate(judged.samples) if s.label == "good" or s.mask]
        masks = np.stack([load_mask(judged.samples[i], height, width) for i in known])
        figures.update(pixel_metrics(masks, judged.maps[known]))
    return figures
