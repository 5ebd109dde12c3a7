"""The bf16 entry of a bundle: the fp32 graph, in the arithmetic of an engine that has bf16.

No second file: the engine rounds for itself. But scores shift a little, so bf16 has calibrations of
its own, and a tolerance, all from the tune part.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_agent.inference.engines.available import start_engine, why_not
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Calibration, Precision, Tolerance
from ssn_trainer.measure.metrics import image_metrics
from ssn_trainer.pack.judge import Judged, Run, judge

BF16_ENGINE: EngineName = "openvino/bf16"
MOST_LOST = 0.005
"""What bf16 may cost of the tune part's I-AUROC, and of its AP-det."""
MOST_SHIFT = 0.1
"""Without bad images: what it may shift a score by, in standard deviations of the good scores."""
_MARGIN = 2.0
"""Twice the largest difference seen is allowed: another processor sums in another order."""
_LEAST = 1e-4
"""A tolerance is never smaller: so much differs in fp32 already."""

Choose = Callable[[Judged], tuple[Calibration, Calibration]]
"""Results on the tune part to the calibrations of score and map."""


@dataclass(frozen=True)
class Bf16:
    """What became of bf16; both are None where this machine cannot tell."""

    precision: Precision | None = None
    refused: str | None = None
    """Why it is not in the bundle."""


def measure_bf16(
    graph: bytes,
    file: str,
    reference: Run,
    fp32: Judged,
    choose: Choose,
    size: tuple[int, int],
    advance: Callable[[int], None],
) -> Bf16:
    """Judge the tune part in bf16, where this machine can, and compare it with `fp32`.

    graph: the fp32 graph, which the bundle holds as `file`; reference: the same on the reference
    engine; size: height and width. Raises DataError, EngineError, and TrainingError where a score
    is not a number.
    """
    if why_not(BF16_ENGINE) is not None:
        return Bf16()
    engine = start_engine(BF16_ENGINE, graph, *size)
    map_shift = 0.0

    def compared(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        nonlocal map_shift
        scores, maps = engine.run(inputs)
        _, expected = reference(inputs)
        map_shift = max(map_shift, float(np.abs(maps - expected).max()))
        return scores, maps

    judged = judge(compared, fp32.samples, *size, advance)
    score_shift = float(np.abs(judged.scores - fp32.scores).max())
    refused = _why_refused(fp32, judged, score_shift)
    if refused is not None:
        return Bf16(refused=refused)
    score, map_ = choose(judged)
    tolerance = Tolerance(
        score=_LEAST + _MARGIN * score_shift,
        map=_LEAST + _MARGIN * map_shift,
    )
    return Bf16(Precision(name="bf16", file=file, score=score, map=map_, tolerance=tolerance))


def _why_refused(fp32: Judged, bf16: Judged, score_shift: float) -> str | None:
    bad = fp32.of("bad")
    if not bad.any():
        spread = float(fp32.scores.std())
        if score_shift <= MOST_SHIFT * spread:
            return None
        return (
            f"bf16 is left out: it shifts a score of the tune part by {score_shift:.2g}, where the "
            f"good ones' standard deviation is {spread:.2g}; allowed are {MOST_SHIFT:g} of that"
        )
    before, after = (image_metrics(bad, judged.scores) for judged in (fp32, bf16))
    for name in ("i_auroc", "ap_det"):
        was, is_ = before[name], after[name]
        if was is not None and is_ is not None and was - is_ > MOST_LOST:
            return (
                f"bf16 is left out: {name} of the tune part is {is_:.4f} with it and {was:.4f} "
                f"without; it may cost {MOST_LOST:g}"
            )
    return None
