"""Cross-validation: one training a fold, each judged on parts that it has never seen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from ssn_agent.inference.engines.ort import OrtCpuEngine
from ssn_contract.manifest import Regime
from ssn_trainer.data.folds import Fold, make_folds, read_folds
from ssn_trainer.data.listing import some
from ssn_trainer.data.samples import Sample, load_all
from ssn_trainer.errors import UsageError
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.job import learn
from ssn_trainer.fit.order import Order
from ssn_trainer.measure.metrics import METRICS
from ssn_trainer.measure.threshold import choose_threshold
from ssn_trainer.pack.export import export_onnx
from ssn_trainer.pack.judge import Figures, figures, judge
from ssn_trainer.progress import progress

Values = dict[str, float | None]
_FOLDS = 5


@dataclass(frozen=True)
class FoldResult:
    """What one fold gave."""

    regime: Regime
    masks: int
    """How many masks of its training part were learned from."""
    train: int
    tune: int
    test: int
    best_epoch: int
    threshold: float
    figures: Figures
    leaks: tuple[str, ...]
    """Test images that the training has seen, by name: a given file put them there."""
    without_leaks: Figures
    """The figures without these; where there are none, the same."""
    seconds: float


@dataclass(frozen=True)
class CrossValidation:
    """All folds, in their order."""

    folds: tuple[FoldResult, ...]
    grouped_by: str
    untested: tuple[str, ...]
    """Images that no fold of a given file tests, by name."""
    seconds: float

    def mean(self, *, leaks: bool = True) -> Values:
        """Return the mean of each figure over the folds; None where a fold lacks it."""
        return {name: _mean(values) for name, values in self._by_name(leaks=leaks).items()}

    def spread(self) -> Values:
        """Return the standard deviation of each figure over the folds."""
        return {name: _spread(values) for name, values in self._by_name(leaks=True).items()}

    def _by_name(self, *, leaks: bool) -> dict[str, list[float | None]]:
        chosen = [fold.figures if leaks else fold.without_leaks for fold in self.folds]
        return {name: [one.values[name] for one in chosen] for name in METRICS}


def crossval(
    order: Order, folds_file: Path | None, count: int | None, console: Console
) -> CrossValidation:
    """Train and judge `order` fold by fold; without a file `count` folds (5) are drawn by group.

    The layout's marks do not count: a marked test part is cut into folds with all else.
    No bundle is written; features are cached in `order.out` and serve all folds. Raises as
    `fit.job.fit` does, and DataError for folds that cannot be had.
    """
    if folds_file is not None and count is not None:
        msg = f"--count {count}: {folds_file} says how many folds there are; leave one of them out"
        raise UsageError(msg)
    start = time.monotonic()
    with console.status(f"reading {order.data}"):
        dataset = load_all(order.data, order.group_by, order.format)
        if folds_file is None:
            folds = make_folds(dataset, count or _FOLDS, order.seed)
        else:
            folds = read_folds(folds_file, dataset, order.seed)
    for note in dataset.notes:
        console.print(f"data: {note}")
    results: list[FoldResult] = []
    checkpoints: list[Checkpoint] = []
    for number, fold in enumerate(folds, 1):
        console.rule(f"fold {number} of {len(folds)}")
        named = replace(order, name=f"{order.name}-fold{number}")
        result, written = _run_fold(named, fold, console)
        results.append(result)
        checkpoints += written
    for checkpoint in checkpoints:  # kept until here: what is cut off trains no fold twice
        checkpoint.remove()
    tested = {s.name for fold in folds for s in fold.split.test}
    untested = tuple(s.name for s in dataset.samples if s.name not in tested)
    seconds = time.monotonic() - start
    return CrossValidation(tuple(results), dataset.grouped_by, untested, seconds)


def as_json(fold: FoldResult) -> dict[str, object]:
    """Return a fold as one object of the command's answer."""
    return {
        **fold.figures.values,
        "intervals": fold.figures.intervals,
        "without_leaks": fold.without_leaks.values,
        "leaks": list(fold.leaks),
        "threshold": fold.threshold,
        "seconds": round(fold.seconds, 1),
        "regime": fold.regime.value,
        "masks": fold.masks,
        "best_epoch": fold.best_epoch,
        "train": fold.train,
        "tune": fold.tune,
        "test": fold.test,
    }


def _run_fold(
    order: Order, fold: Fold, console: Console
) -> tuple[FoldResult, tuple[Checkpoint, ...]]:
    start = time.monotonic()
    learned = learn(order, fold.split, console)
    engine = OrtCpuEngine(export_onnx(learned.network), order.height, order.width)
    leaking = {s.name for s in fold.leaks}
    if leaking:
        console.print(f"{len(leaking)} test images are trained on, too: {some(sorted(leaking))}")
    test = learned.parts.test

    def judged_figures(samples: Sequence[Sample]) -> Figures:
        with progress(console, "judging", len(samples)) as advance:
            judged = judge(engine.run, samples, order.height, order.width, advance, pixels=True)
        return figures(judged)

    with progress(console, "tuning", len(fold.split.tune)) as advance:
        tune = judge(engine.run, fold.split.tune, order.height, order.width, advance)
    _, score = choose_threshold(tune.scores[tune.of("good")], tune.scores[tune.of("bad")])
    whole = judged_figures(test)
    clean = judged_figures([s for s in test if s.name not in leaking]) if leaking else whole
    console.print(", ".join(f"{k} {v:.4f}" for k, v in whole.values.items() if v is not None))
    result = FoldResult(
        regime=learned.regime,
        masks=learned.masks,
        train=len(fold.split.train),
        tune=len(fold.split.tune),
        test=len(fold.split.test),
        best_epoch=learned.trained.best_epoch,
        threshold=score.threshold,
        figures=whole,
        leaks=tuple(sorted(leaking)),
        without_leaks=clean,
        seconds=time.monotonic() - start,
    )
    return result, learned.checkpoints


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None
