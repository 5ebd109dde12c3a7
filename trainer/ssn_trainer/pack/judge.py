"""Images to raw scores and figures, through the arithmetic that the agent serves with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_trainer.data.images import load_input, load_mask
from ssn_trainer.data.samples import Sample
from ssn_trainer.measure.bootstrap import FEWEST_GROUPS, Interval, bootstrap_intervals
from ssn_trainer.measure.metrics import METRICS, image_metrics
from ssn_trainer.measure.pixels import PixelTally

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""uint8 [N, H, W, 3] to raw scores [N] and raw maps [N, H, W]: `Scorer.score_inputs`."""

_BATCH = 4


@dataclass(frozen=True)
class Judged:
    """Raw results of some images, in their order. Maps are not kept: they are large."""

    samples: Sequence[Sample]
    scores: NDArray[np.float32]
    """[N]"""
    peaks: NDArray[np.float32]
    """The highest value of each map, [N]."""
    pixels: PixelTally | None = None
    """The pixels of good images and of bad ones with a mask; None where there are no masks."""

    def of(self, label: str) -> NDArray[np.bool_]:
        """Return which images have that label, bool [N]."""
        return np.array([s.label == label for s in self.samples], bool)


@dataclass(frozen=True)
class Figures:
    """The figures of a part, all of METRICS."""

    values: dict[str, float | None]
    """None where a figure cannot be told: one class alone, no masks."""
    intervals: dict[str, Interval | None]
    """95 % intervals; None where too few groups have a class."""
    remark: str | None
    """Why there are figures without an interval, where that is so."""


def judge(
    run: Run,
    samples: Sequence[Sample],
    height: int,
    width: int,
    advance: Callable[[int], None],
    *,
    pixels: bool = False,
) -> Judged:
    """Score `samples` at the network's size; `advance` is told how many are done.

    `pixels` counts pixels by their masks; without it no mask is opened. Only the maps of bad images
    with a mask are held then, until all of these are judged. Bad images without one are left out of
    the pixel measures. Raises DataError for an unreadable image or a mask that does not fit its
    image, EngineError where the engine fails, TrainingError for a map value that is no number.
    """
    masked = [i for i, s in enumerate(samples) if pixels and s.mask is not None]
    others = sorted(set(range(len(samples))) - set(masked))
    scores, peaks = np.empty((2, len(samples)), np.float32)
    held = []
    for i, score, found in _run_all(run, samples, masked, height, width, advance):
        scores[i], peaks[i] = score, found.max()
        held.append(found)
    tally = None
    if masked:
        masks = [load_mask(samples[i], height, width) for i in masked]
        tally = PixelTally(masks, held, [samples[i].group for i in masked])
    held.clear()
    for i, score, found in _run_all(run, samples, others, height, width, advance):
        scores[i], peaks[i] = score, found.max()
        if tally is not None and samples[i].label == "good":
            tally.add_good(found, samples[i].group)
    return Judged(samples, scores, peaks, tally)


def _run_all(
    run: Run,
    samples: Sequence[Sample],
    indices: Sequence[int],
    height: int,
    width: int,
    advance: Callable[[int], None],
) -> Iterator[tuple[int, np.float32, NDArray[np.float32]]]:
    """Index, raw score and raw map [H, W] of each of the samples that `indices` names."""
    for start in range(0, len(indices), _BATCH):
        batch = indices[start : start + _BATCH]
        scores, maps = run(np.stack([load_input(samples[i], height, width) for i in batch]))
        yield from zip(batch, scores, maps, strict=True)
        advance(len(batch))


def figures(judged: Judged) -> Figures:
    """Return every figure of METRICS with its interval.

    Raises TrainingError where a score is not a number.
    """
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    intervals: dict[str, Interval | None] = dict.fromkeys(METRICS)
    if judged.samples:
        bad, groups = judged.of("bad"), [s.group for s in judged.samples]
        values.update(image_metrics(bad, judged.scores))
        if judged.pixels is not None:
            values.update(judged.pixels.metrics())
        intervals.update(bootstrap_intervals(bad, judged.scores, groups, judged.pixels))
    without = [name for name in METRICS if values[name] is not None and intervals[name] is None]
    remark = None
    if without:
        remark = (
            f"no 95 % interval for {', '.join(without)}: fewer than {FEWEST_GROUPS} parts (groups)"
            " with good or with bad images; add images of other parts to the test part"
        )
    return Figures(values, intervals, remark)
