"""A trained network to a bundle: graph, thresholds, data list, reference and vectors."""

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssn_agent import __version__
from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.errors import AgentError
from ssn_agent.frames.pixels import read_image, to_network_input
from ssn_agent.inference.engines.ort import OrtCpuEngine
from ssn_agent.inference.scorer import Scorer
from ssn_contract.manifest import Calibration, Regime, Threshold
from ssn_trainer.data.images import load_input
from ssn_trainer.data.samples import DataSet, Sample
from ssn_trainer.data.split import Split
from ssn_trainer.errors import PackError
from ssn_trainer.measure.bootstrap import Interval
from ssn_trainer.measure.limits import Limits, unsupported
from ssn_trainer.measure.threshold import choose_map_threshold, choose_threshold
from ssn_trainer.model.heads import SuperSimpleNetHead
from ssn_trainer.model.network import Network
from ssn_trainer.pack.export import export_onnx, halve_weights
from ssn_trainer.pack.fp16 import to_fp16
from ssn_trainer.pack.gallery import FULL, SMALL, Painter
from ssn_trainer.pack.int8 import quantise
from ssn_trainer.pack.judge import Figures, Judged, figures, judge
from ssn_trainer.pack.reference import describe
from ssn_trainer.pack.report import Facts, Making, render
from ssn_trainer.pack.rounding import round_weights
from ssn_trainer.pack.twin import TWINS, Twin, TwinName, engines_for, measure_twin

SCORE_TOLERANCE = 1e-4
MAP_TOLERANCE = 1e-3
"""Largest differences from the torch model, relative to the largest value where that exceeds 1."""

_MODEL = "model.onnx"
_FP16 = "model.fp16.onnx"
_INT8 = "model.int8.onnx"
_DATA = "data.json"
_REFERENCE = "reference.json"
_REPORT = "report.html"
_VECTORS = 4
_CALIBRATION = 32
"""Images that the ranges of int8 are taken from: enough for ranges, and a second or two."""
_NO_LIMITS = Limits()
_UNTOLD = Making()


@dataclass(frozen=True)
class Labelled:
    """The data a network was made from, and how it was cut."""

    dataset: DataSet
    split: Split
    seed: int


@dataclass(frozen=True)
class Title:
    """How a bundle is called and what it says about its making."""

    name: str
    version: str
    regime: Regime
    backbone: str


@dataclass(frozen=True)
class Packed:
    """A bundle that was written and reproduces its vectors."""

    path: Path
    metrics: dict[str, float | None]
    """Figures of the test part."""
    intervals: dict[str, Interval | None]
    """Their 95 % intervals."""
    remarks: tuple[str, ...]
    """What the data cannot tell, in words."""
    threshold: float
    """Raw threshold of the score."""
    chosen: Threshold
    """How it was chosen, and which limits it keeps."""


def pack(
    network: Network,
    title: Title,
    data: Labelled,
    out: Path,
    *,
    limits: Limits = _NO_LIMITS,
    making: Making = _UNTOLD,
    half_weights: bool = False,
    twins: Sequence[TwinName] = TWINS,
    advance: Callable[[int], None] = lambda _: None,
) -> Packed:
    """Write `out`/NAME-VERSION.ssn and prove that the agent's scorer reproduces it.

    Threshold (within `limits`) and calibration come from the tune part, metrics from the test part
    (all None where the layout marks the test part: `eval` gives them then). `making` is told in the
    report, its settings in `data.json` as well. `half_weights` rounds the stored weights to float16
    before any of these are taken, and keeps the report's pictures small. `twins`: the precisions to
    try beside fp32; one that costs too much accuracy is left out, with a remark. `advance` is told
    how many images are judged.

    The bundle appears at its path only when its vectors were replayed. Raises PackError where they
    are not reproduced or graph and network differ, DataError, EngineError and OSError.
    """
    height, width = network.height, network.width
    exported = export_onnx(network)
    vectors = _spread(data.split.tune, _VECTORS)
    _check_parity(network, OrtCpuEngine(exported, height, width), vectors)
    graph = halve_weights(exported) if half_weights else exported
    engine = OrtCpuEngine(graph, height, width)

    tune = judge(engine.run, data.split.tune, height, width, advance)
    threshold, score, map_calibration = _decide(tune, limits)
    files = {_MODEL: graph}
    samples = _spread(_seen(title.regime, data.split), _CALIBRATION)
    size = height, width
    measured = _add_twins(files, twins, exported, samples, engine, tune, limits, size, advance)
    test = data.split.test
    tested = judge(engine.run, test, height, width, advance, pixels=True)
    found = figures(tested)
    good = [s for s in data.split.train if s.label == "good"]
    good_scores = judge(engine.run, good, height, width, advance).scores
    reference = describe(good, good_scores, tune.scores[tune.of("good")], height, width)

    files[_DATA] = _json(_list_data(data, making))
    files[_REFERENCE] = _json(reference)
    entries, tolerance = _add_vectors(files, vectors, engine, height, width)
    manifest = _manifest(network, title) | {
        "threshold": threshold.model_dump(),
        "precisions": [
            {
                "name": "fp32",
                "file": _MODEL,
                "score": score.model_dump(),
                "map": map_calibration.model_dump(),
                "tolerance": tolerance,
            },
            *(twin.precision.model_dump() for twin in measured if twin.precision),
        ],
        "metrics": _metrics(found),
        "vectors": entries,
    }
    room = SMALL if half_weights else FULL
    painter = Painter(engine.run, height, width, map_calibration, room, masks=bool(test))
    facts = Facts(
        manifest=manifest,
        making=making,
        dataset=data.dataset,
        split=data.split,
        seed=data.seed,
        threshold=threshold,
        calibration=score,
        judged=tested if test else tune,
        on_test=bool(test),
        figures=found,
        painter=painter,
    )
    files[_REPORT] = render(facts)
    path = out / f"{title.name}-{title.version}.ssn"
    _write_verified(path, manifest, files)
    refused = [twin.refused for twin in measured]
    remarks = (*unsupported(threshold), *filter(None, (found.remark, *refused)))
    return Packed(path, found.values, found.intervals, remarks, score.threshold, threshold)


def _decide(tune: Judged, limits: Limits) -> tuple[Threshold, Calibration, Calibration]:
    """How the score's threshold is chosen from the tune part, and both calibrations."""
    is_good, is_bad = tune.of("good"), tune.of("bad")
    threshold, score = choose_threshold(
        tune.scores[is_good],
        tune.scores[is_bad],
        limits,
        [s.group for s in tune.samples if s.label == "good"],
        [s.group for s in tune.samples if s.label == "bad"],
    )
    return threshold, score, choose_map_threshold(tune.peaks[is_good])


def _add_twins(
    files: dict[str, bytes],
    names: Sequence[TwinName],
    exported: bytes,
    seen: Sequence[Sample],
    engine: OrtCpuEngine,
    tune: Judged,
    limits: Limits,
    size: tuple[int, int],
    advance: Callable[[int], None],
) -> list[Twin]:
    """Put the graphs of the twins that may be shipped into `files`; return what became of each."""

    def decide(judged: Judged) -> tuple[Calibration, Calibration]:
        _, score, anomaly_map = _decide(judged, limits)
        return score, anomaly_map

    twins = []
    for name in names:
        file, graph = _MODEL, files[_MODEL]
        if name == "fp16":
            file, graph = _FP16, to_fp16(exported)
        if name == "int8":
            images = [load_input(sample, *size) for sample in seen]
            file, graph = _INT8, round_weights(quantise(exported, images), exported, images)
        twin = measure_twin(name, graph, file, engine.run, tune, decide, size, advance)
        if twin.precision is not None:
            files[file] = graph
        twins.append(twin)
    return twins


def _seen(regime: Regime, split: Split) -> list[Sample]:
    """What the network was trained on: without labels the good images alone."""
    return [s for s in split.train if s.label == "good" or regime is not Regime.UNSUPERVISED]


def used_digests(bundle: Bundle) -> frozenset[str]:
    """Return the digests of the images that a bundle was trained or tuned on.

    Raises BundleError where it does not say, PackError where what it says cannot be read.
    """
    return frozenset(_listed(bundle, "train", "tune"))


def listed_groups(bundle: Bundle) -> dict[str, str]:
    """Return the groups of the images of a bundle's test part, by digest. Raises as above."""
    return _listed(bundle, "test")


def _listed(bundle: Bundle, *parts: str) -> dict[str, str]:
    """The groups of the images of some parts, by digest."""
    try:
        listed = json.loads(bundle.read(_DATA))["parts"]
        return {image["digest"]: image["group"] for part in parts for image in listed[part]}
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{bundle.path}: its {_DATA} does not list the images it was made from ({error!r})"
        raise PackError(f"{msg}; pack it anew") from error


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """A few images of each label, spread over the samples, which are ordered by name."""
    labels = sorted({s.label for s in samples})
    chosen = []
    for label in labels:
        of_label = [s for s in samples if s.label == label]
        count = min(most // len(labels), len(of_label))
        chosen += [of_label[i * len(of_label) // count] for i in range(count)]
    return chosen


def _check_parity(network: Network, engine: OrtCpuEngine, samples: Sequence[Sample]) -> None:
    """Raise PackError where the graph does not give the network's own results."""
    for sample in samples:
        batch = load_input(sample, network.height, network.width)[np.newaxis]
        scores, maps = engine.run(batch)
        with torch.inference_mode():
            expected_scores, expected_maps = network(torch.from_numpy(batch))
        for what, got, expected, tolerance in (
            ("score", scores, expected_scores.numpy(), SCORE_TOLERANCE),
            ("map", maps, expected_maps.numpy(), MAP_TOLERANCE),
        ):
            difference = float(np.abs(got - expected).max())
            if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
                msg = (
                    f"{sample.path}: the exported graph's {what} differs from the network's by "
                    f"{difference:.2g}; this is a fault of the exporter: report it with the "
                    f"versions of torch ({torch.__version__}) and onnx"
                )
                raise PackError(msg)


def _list_data(data: Labelled, making: Making) -> dict[str, object]:
    """Return the content of `data.json`."""
    split = data.split

    def listed(samples: Sequence[Sample]) -> list[dict[str, str]]:
        return [
            {"name": s.name, "digest": s.digest, "group": s.group, "label": s.label}
            for s in samples
        ]

    return {
        "layout": data.dataset.layout,
        "grouped_by": data.dataset.grouped_by,
        "seed": data.seed,
        "settings": dict(making.settings),
        "parts": {
            "train": listed(split.train),
            "tune": listed(split.tune),
            "test": listed(split.test),
        },
    }


def _add_vectors(
    files: dict[str, bytes],
    samples: Sequence[Sample],
    engine: OrtCpuEngine,
    height: int,
    width: int,
) -> tuple[list[dict[str, object]], dict[str, float]]:
    """Put raw images and expected maps into `files`; return the manifest's list and tolerance."""
    entries: list[dict[str, object]] = []
    largest_score, largest_map = 1.0, 1.0
    for index, sample in enumerate(samples):
        pixels = read_image(sample.path)
        batch = to_network_input(pixels, height, width)[np.newaxis]
        scores, maps = engine.run(batch)
        image, expected = f"vectors/{index}.png", f"vectors/{index}.map"
        files[image] = _png(pixels)
        files[expected] = maps[0].astype("<f4").tobytes()
        entries.append({"image": image, "score": float(scores[0]), "map": expected})
        largest_score = max(largest_score, abs(float(scores[0])))
        largest_map = max(largest_map, float(np.abs(maps).max()))
    tolerance = {"score": SCORE_TOLERANCE * largest_score, "map": MAP_TOLERANCE * largest_map}
    return entries, tolerance


def _manifest(network: Network, title: Title) -> dict[str, object]:
    """Return the manifest's fields that do not depend on any score."""
    head = network.head
    return {
        "name": title.name,
        "version": title.version,
        "created_at": dt.datetime.now(dt.timezone.utc),
        "trainer": f"ssn-trainer {__version__}",
        "regime": title.regime,
        "head": head.kind,
        "variant": head.variant if isinstance(head, SuperSimpleNetHead) else None,
        "backbone": title.backbone,
        "input": {
            "height": network.height,
            "width": network.width,
            "mean": network.extractor.pixel_mean,
            "std": network.extractor.pixel_std,
        },
    }


def _metrics(found: Figures) -> dict[str, dict[str, float | None]]:
    """The figures that there are, as the manifest lists them."""
    listed: dict[str, dict[str, float | None]] = {}
    for name, value in found.values.items():
        if value is not None:
            low, high = found.intervals[name] or (None, None)
            listed[name] = {"value": value, "low": low, "high": high}
    return listed


def _write_verified(path: Path, manifest: dict[str, object], files: dict[str, bytes]) -> None:
    """Write under another name, replay the vectors, then rename. Raises PackError."""
    unproven = path.with_name(f".{path.name}.unproven-{os.getpid()}")
    try:
        written = write_bundle(unproven, manifest, files)
        Scorer(Bundle.open(unproven)).check_vectors()
        for precision in written.precisions:
            for engine in engines_for(precision.name):
                Scorer(Bundle.open(unproven), engine=engine).check_vectors()
        unproven.replace(path)
    except AgentError as error:
        msg = f"{path}: not written, for what was packed does not prove itself: {error}"
        raise PackError(msg) from error
    finally:
        unproven.unlink(missing_ok=True)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Gray [H, W] or RGB [H, W, 3] as PNG, which loses nothing."""
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", ordered)[1].tobytes()


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()
