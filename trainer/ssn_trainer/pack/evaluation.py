"""`eval`: a bundle's figures on images that it has never seen."""

import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import roc_auc_score

from ssn_agent.atomic import atomic_text
from ssn_agent.bundles.archive import Bundle
from ssn_agent.inference.calibration import calibrate
from ssn_agent.inference.scorer import Scorer
from ssn_trainer.data.images import drop_blank_masks
from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import Sample, load_test
from ssn_trainer.errors import DataError
from ssn_trainer.measure.bootstrap import Interval, paired_auroc
from ssn_trainer.pack.bundle import listed_groups, used_digests
from ssn_trainer.pack.judge import Judged, figures, judge
from ssn_trainer.progress import progress


@dataclass(frozen=True)
class Comparison:
    """What another bundle makes of the same images."""

    i_auroc: float
    """Of the other one."""
    rise: float
    """How much higher it is for the one that is judged."""
    interval: Interval | None
    """95 % of the rise, both being judged on the same resampled parts; None of too few parts."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a bundle on a data set."""

    metrics: dict[str, float | None]
    intervals: dict[str, Interval | None]
    threshold: float
    """Raw threshold of the score."""
    judged: Judged
    published: NDArray[np.float32]
    """Calibrated scores of the judged images, [N]: FAIL from 0.5 on."""
    left_out: int
    """Images that the bundle was trained or tuned on."""
    against: Comparison | None
    seconds: float


def evaluate(
    path: Path,
    data: Path,
    console: Console,
    format: Format = "auto",  # noqa: A002 -- the option's name
    against: Path | None = None,
) -> Evaluation:
    """Judge the images which the layout marks as test, or else all, but none the bundle learned.

    Nor any that the bundle `against` learned, where there is one. The intervals take images that
    the bundle lists by its groups, others by those of `load_test`.
    Raises BundleError, EngineError, DataError.
    """
    start = time.monotonic()
    bundle = Bundle.open(path)
    other = None if against is None else Bundle.open(against)
    scorer = Scorer(bundle)
    unseen, left_out = unseen_samples(bundle, data, format, console, other)
    judgeable, blank = drop_blank_masks(unseen)
    if blank:
        console.print(f"{len(blank)} masks mark nothing, as that of {blank[0]}: counted as no mask")
    size = scorer.input
    with progress(console, "judging", len(unseen)) as advance:
        judged = judge(
            scorer.score_inputs, judgeable, size.height, size.width, advance, pixels=True
        )
    found = figures(judged)
    if found.remark:
        console.print(found.remark)
    return Evaluation(
        found.values,
        found.intervals,
        scorer.precision.score.threshold,
        judged,
        calibrate(judged.scores, scorer.precision.score),
        left_out,
        None if other is None else _compared(judged, other, console),
        time.monotonic() - start,
    )


def _compared(judged: Judged, other: Bundle, console: Console) -> Comparison:
    """Judge the same images by another bundle. Raises BundleError, EngineError, DataError."""
    samples, bad = judged.samples, judged.of("bad")
    if bad.all() or not bad.any():
        msg = "only good or only bad images are left, so nothing can be compared; give both"
        raise DataError(msg)
    scorer = Scorer(other)
    size = scorer.input
    with progress(console, f"judging by {other.path.name}", len(samples)) as advance:
        before = judge(scorer.score_inputs, samples, size.height, size.width, advance)
    groups = [sample.group for sample in samples]
    i_auroc = float(roc_auc_score(bad, before.scores))
    return Comparison(i_auroc, *paired_auroc(bad, before.scores, judged.scores, groups))


def unseen_samples(
    bundle: Bundle,
    data: Path,
    format: Format,  # noqa: A002 -- the option's name
    console: Console,
    other: Bundle | None = None,
) -> tuple[list[Sample], int]:
    """Return the images of `data` to judge a bundle on, and how many it was trained or tuned on.

    With another bundle: it or that one. Raises BundleError, PackError, and DataError, also where no
    image is left.
    """
    offered = load_test(data, format)
    for note in offered.notes:
        console.print(f"data: {note}", markup=False)
    used, groups = used_digests(bundle), listed_groups(bundle)
    if other is not None:
        used |= used_digests(other)
    unseen = [
        replace(s, group=groups.get(s.digest, s.group))
        for s in offered.samples
        if s.digest not in used
    ]
    if not unseen:
        msg = f"{data}: {bundle.path.name} was trained or tuned on all of its images"
        raise DataError(f"{msg}; give it others")
    return unseen, len(offered.samples) - len(unseen)


def write_scores(result: Evaluation, path: Path) -> None:
    """Write image, label and published score of each judged image as CSV. Raises OSError."""
    with atomic_text(path) as text:
        table = csv.writer(text)
        table.writerow(["image", "label", "score"])
        for sample, score in zip(result.judged.samples, result.published, strict=True):
            table.writerow([sample.name, sample.label, repr(float(score))])
