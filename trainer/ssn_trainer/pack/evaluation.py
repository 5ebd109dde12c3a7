"""`eval`: a bundle's figures on images that it has never seen."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ssn_agent.bundles.archive import Bundle
from ssn_agent.inference.scorer import Scorer
from ssn_trainer.data.samples import load
from ssn_trainer.errors import DataError
from ssn_trainer.pack.bundle import used_digests
from ssn_trainer.pack.judge import judge, metrics


@dataclass(frozen=True)
class Evaluation:
    """Figures of a bundle on a data set."""

    metrics: dict[str, float | None]
    threshold: float
    """Raw threshold of the score."""
    judged: int
    left_out: int
    """Images that the bundle was trained or tuned on."""
    seconds: float


def evaluate(path: Path, data: Path, group_by: str | None, console: Console) -> Evaluation:
    """Judge the images which the layout marks as test, or else all, but none the bundle learned.

    Raises BundleError, EngineError, DataError.
    """
    start = time.monotonic()
    bundle = Bundle.open(path)
    scorer = Scorer(bundle)
    samples = load(data, group_by).samples
    marked = [s for s in samples if s.part == "test"]
    offered = marked or list(samples)
    used = used_digests(bundle)
    unseen = [s for s in offered if s.digest not in used]
    if not unseen:
        msg = f"{data}: {path.name} was trained or tuned on all of its images; give it others"
        raise DataError(msg)
    size = scorer.input
    with Progress(console=console) as progress:
        task = progress.add_task("judging", total=len(unseen))
        judged = judge(
            scorer.score_inputs,
            unseen,
            size.height,
            size.width,
            lambda done: progress.advance(task, done),
        )
    return Evaluation(
        metrics(judged),
        scorer.precision.score.threshold,
        len(unseen),
        len(offered) - len(unseen),
        time.monotonic() - start,
    )
