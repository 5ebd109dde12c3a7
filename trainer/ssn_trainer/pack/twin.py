"""The fp32 graph's twins, in other arithmetic: each with figures of its own, or not in the bundle.

Scores shift a little, so a twin has calibrations of its own, and a tolerance, all from the tune
part. bf16 needs no file: the engine rounds the fp32 graph. fp16 and int8 have one (`pack.fp16`,
`pack.int8`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import EngineError
from ssn_agent.inference.engines.available import start_engine, why_not
from ssn_agent.inference.engines.engine import Engine
from ssn_agent.inference.engines.ort import CPU, OrtCpuEngine, OrtEngine
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Calibration, Precision, Tolerance
from ssn_trainer.data.samples import Sample
from ssn_trainer.measure.metrics import image_metrics
from ssn_trainer.pack.fp16 import rounded
from ssn_trainer.pack.judge import Judged, Run, judge

TwinName = Literal["bf16", "fp16", "int8"]
TWINS: tuple[TwinName, ...] = get_args(TwinName)

_ENGINES: Mapping[str, Sequence[EngineName]] = {
    "bf16": ("openvino/bf16",),
    # Not TensorRT, which builds for minutes: it is measured where it is tried, by the vectors.
    "fp16": ("onnxruntime-cuda/fp16",),
    "int8": ("onnxruntime-cpu/int8", "openvino/int8"),
}
"""Where a twin is measured: each of them rounds in other places. The first gives calibrations;
before CUDA's, for fp16, comes what the processor rounds as a GPU does."""
MOST_LOST = 0.005
"""What a twin may cost of the tune part's I-AUROC, and of its AP-det."""
MOST_NOISE = 0.2
"""Without bad images: how much a score's difference from fp32 may vary, as a share of what the good
scores vary by. Of normal scores that costs 0.005 I-AUROC at most: noise of a share r takes d' to
d' / sqrt(1 + r^2), and the area less than 0.121 r^2. What all scores shift by costs nothing, for a
twin has calibrations of its own."""
_QUARTILES = 1.349
"""Distance of the quartiles of normal scores, in standard deviations."""
_MARGIN = 2.0
"""Twice the largest difference seen is allowed: another processor sums in another order."""
_LEAST = 1e-4
"""A tolerance is never smaller: so much differs in fp32 already."""

Choose = Callable[[Judged], tuple[Calibration, Calibration]]
"""Results on the tune part to the calibrations of score and map."""


@dataclass(frozen=True)
class Twin:
    """What became of a twin; both are None where this machine cannot tell."""

    precision: Precision | None = None
    refused: str | None = None
    """Why it is not in the bundle."""


def engines_for(name: str) -> list[EngineName]:
    """Return the engines of this machine that a twin is measured on; of others, none."""
    return [engine for engine in _ENGINES.get(name, ()) if why_not(engine) is None]


def measure_twin(
    name: TwinName,
    graph: bytes,
    file: str,
    reference: Run,
    fp32: Judged,
    choose: Choose,
    size: tuple[int, int],
    advance: Callable[[int], None],
) -> Twin:
    """Judge the tune part with a twin on each engine that it is for, and compare it with `fp32`.

    fp16 is judged without a GPU, too: see `pack.fp16`.

    graph: the twin's, which the bundle holds as `file`; reference: fp32 on the reference engine;
    size: height and width. A twin that does not load, or answers what is no number, is left out as
    well: fp16 ends at 65504. Raises DataError, and TrainingError where a score is not a number.
    """
    answers: list[Judged] = []
    score_shift = map_shift = 0.0
    try:
        for engine in _start(name, graph, size):
            judged, by_map = _judge_beside(engine, reference, fp32.samples, size, advance)
            by_score = float(np.abs(judged.scores - fp32.scores).max())
            refused = _why_refused(fp32, judged)
            if refused is not None:
                return Twin(refused=f"{name} is left out: on {engine.name} {refused}")
            answers.append(judged)
            score_shift, map_shift = max(score_shift, by_score), max(map_shift, by_map)
    except EngineError as error:
        return Twin(refused=f"{name} is left out: {error}")
    if not answers:
        return Twin()
    score, map_ = choose(answers[0])
    tolerance = Tolerance(
        score=_LEAST + _MARGIN * score_shift,
        map=_LEAST + _MARGIN * map_shift,
    )
    return Twin(Precision(name=name, file=file, score=score, map=map_, tolerance=tolerance))


def _start(name: TwinName, graph: bytes, size: tuple[int, int]) -> Iterator[Engine]:
    """Start what a twin is measured on, one after the other."""
    if name == "fp16":
        yield OrtEngine("a processor that rounds as a GPU/fp16", rounded(graph), *size, 0, CPU)
        yield OrtCpuEngine(graph, *size, precision=name)  # the very file: it loads and answers
    for engine in engines_for(name):
        yield start_engine(engine, graph, *size)


def _judge_beside(
    engine: Engine,
    reference: Run,
    samples: Sequence[Sample],
    size: tuple[int, int],
    advance: Callable[[int], None],
) -> tuple[Judged, float]:
    """What an engine makes of the tune part, and the largest difference of a map's value."""
    map_shift = 0.0

    def compared(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        nonlocal map_shift
        scores, maps = engine.run(inputs)
        _, expected = reference(inputs)
        map_shift = max(map_shift, float(np.abs(maps - expected).max()))
        return scores, maps

    return judge(compared, samples, *size, advance), map_shift


def _why_refused(fp32: Judged, twin: Judged) -> str | None:
    bad = fp32.of("bad")
    if not bad.any():
        noise = float((twin.scores - fp32.scores).std())
        # By the quartiles: a few unusual good parts would make any noise look small.
        lower, upper = np.percentile(fp32.scores, (25, 75))
        spread = float(upper - lower) / _QUARTILES
        if noise < MOST_NOISE * spread:
            return None
        return (
            f"what it changes of a tune image's score varies by {noise:.2g} (standard deviation), "
            f"where the good scores vary by {spread:.2g} (from their quartiles); allowed is a "
            f"share of {MOST_NOISE:g}"
        )
    before, after = (image_metrics(bad, judged.scores) for judged in (fp32, twin))
    for name in ("i_auroc", "ap_det"):
        was, is_ = before[name], after[name]
        if was is not None and is_ is not None and was - is_ > MOST_LOST:
            return (
                f"{name} of the tune part is {is_:.4f} with it and {was:.4f} without; "
                f"it may cost {MOST_LOST:g}"
            )
    return None
