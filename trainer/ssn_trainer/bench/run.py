"""`bench`: every engine here on a bundle, in rounds, so that the machine's noise hits all alike."""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import EngineError
from ssn_agent.frames.pixels import decode_image, to_network_input
from ssn_agent.inference.engines.available import REFERENCE, available_engines, why_not
from ssn_agent.inference.engines.cores import physical_cores, processor
from ssn_agent.inference.settings import MAX_BATCH
from ssn_trainer.bench.graphs import backbone_graph, multiply_adds, published_graph
from ssn_trainer.bench.rows import Bench, Row
from ssn_trainer.bench.worker import PRODUCT, Model, Subject, Worker
from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import Sample
from ssn_trainer.measure.metrics import image_metrics
from ssn_trainer.pack.evaluation import unseen_samples
from ssn_trainer.pack.int8 import quantise
from ssn_trainer.progress import progress

FRAME = (480, 640)
BATCHES = (1, 4, MAX_BATCH)
_TURN_S = 0.3
_RUNTIMES = ("onnxruntime-cpu", "openvino")
"""Those in which the published graph and the backbone are timed."""


@dataclass
class _Timed:
    """A worker, and what it answered, by size of batch."""

    worker: Worker
    multiply_adds: int
    rounds: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)
    peak_mb: dict[int, float] = field(default_factory=dict)
    """Of the first round: later ones have seen larger batches."""
    differences: dict[str, float | None] = field(default_factory=dict)
    """Of its figures from the reference's, by name."""

    @property
    def is_product(self) -> bool:
        return self.worker.subject.model == "matrix product"

    @property
    def batches(self) -> tuple[int, ...]:
        return (1,) if self.is_product else BATCHES

    def take(self, batch: int) -> None:
        """Take times for one turn. Raises EngineError."""
        times = self.worker.times(batch, _TURN_S)
        self.rounds.setdefault(batch, []).append(times.times_ms)
        self.peak_mb.setdefault(batch, times.peak_mb)


def bench(
    path: Path,
    data: Path | None,
    console: Console,
    *,
    rounds: int,
    format: Format = "auto",  # noqa: A002 -- the option's name
) -> Bench:
    """Time a bundle on every engine here, beside the published graph and the backbone alone.

    Accuracy is measured on the images of `data` that the bundle has not learned. An engine that
    fails is left out, with the reason; the reference must not. Raises BundleError, EngineError,
    DataError, WeightsError and OSError.
    """
    bundle = Bundle.open(path)
    problem = why_not(REFERENCE)
    if problem is not None:
        raise EngineError(problem)
    samples = None if data is None else unseen_samples(bundle, data, format, console)[0]
    left_out: list[str] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssn-bench-")))
        with console.status("making the graphs"):
            subjects = _subjects(bundle, scratch)
        timed: list[_Timed] = []
        with console.status("loading the engines") as status:
            for subject, count in subjects:
                status.update(f"loading {subject.model} on {subject.engine}")
                _start(subject, count, stack, timed, left_out)
        _take_turns(timed, rounds, left_out, console)
        if samples is not None:
            _judge(timed, samples, left_out, console)
    for line in left_out:
        console.print(f"left out: {line}", markup=False)
    rates = _rates(timed)
    return Bench(
        bundle=f"{bundle.manifest.name} {bundle.manifest.version}",
        processor=processor().get("model name", "unknown processor"),
        threads=physical_cores(),
        frame=FRAME,
        rounds=rounds,
        judged=None if samples is None else len(samples),
        multiply_adds_per_second=rates,
        rows=tuple(_row(t, b, rates) for t in timed if not t.is_product for b in t.batches),
        left_out=tuple(left_out),
    )


def _subjects(bundle: Bundle, scratch: Path) -> list[tuple[Subject, int]]:
    """All that is timed, each with the multiply-adds of its graph."""
    manifest, size = bundle.manifest, bundle.manifest.input
    frame = _write_frame(bundle, scratch / "frame.npy")
    packed: set[str] = {precision.name for precision in manifest.precisions}
    here = available_engines()
    engines = [e.split("/") for e in here if e.split("/")[1] in packed]
    on_cpu = [(runtime, precision) for runtime, precision in engines if runtime in _RUNTIMES]
    published, backbone = scratch / "published.onnx", scratch / "backbone.onnx"
    published.write_bytes(published_graph(manifest.backbone, size))
    backbone.write_bytes(backbone_graph(manifest.backbone, size))
    files = dict.fromkeys(packed, backbone)
    if any(precision == "int8" for _, precision in on_cpu):
        files["int8"] = scratch / "backbone-int8.onnx"
        one = to_network_input(np.load(frame, allow_pickle=False), size.height, size.width)
        files["int8"].write_bytes(quantise(backbone.read_bytes(), [one]))

    def subject(model: Model, runtime: str, precision: str | None, path: Path) -> Subject:
        return Subject(
            model=model,
            runtime=runtime,
            precision=precision,
            path=path,
            frame=frame,
            height=size.height,
            width=size.width,
            cache=scratch,
        )

    counts = (
        multiply_adds(bundle.read(manifest.precision("fp32").file)),
        multiply_adds(published.read_bytes()),
        multiply_adds(backbone.read_bytes()),
    )
    runtimes = dict.fromkeys(runtime for runtime, _ in on_cpu)
    # bf16 also where the bundle has none: OpenVINO takes it by itself for the published graph.
    products = ("fp32", "bf16") if "openvino/bf16" in here else ("fp32",)
    return [
        *((subject("bundle", r, p, bundle.path), counts[0]) for r, p in engines),
        *((subject("published", r, None, published), counts[1]) for r in runtimes),
        *((subject("backbone", r, p, files[p]), counts[2]) for r, p in on_cpu),
        *((subject("matrix product", "torch", p, scratch), PRODUCT**3) for p in products),
    ]


def _write_frame(bundle: Bundle, path: Path) -> Path:
    """Write the bundle's first vector as a frame of a camera."""
    name = bundle.manifest.vectors[0].image
    image = decode_image(bundle.read(name), f"{bundle.path}: {name}")
    np.save(path, cv2.resize(image, FRAME[::-1]), allow_pickle=False)
    return path


def _start(
    subject: Subject, count: int, stack: ExitStack, timed: list[_Timed], left_out: list[str]
) -> None:
    """Add a subject to `timed`, until `stack` ends."""
    try:
        worker = Worker(subject)
    except EngineError as error:
        _leave_out(subject, error, left_out)
        return
    stack.callback(worker.close)
    timed.append(_Timed(worker, count))


def _leave_out(subject: Subject, error: EngineError, left_out: list[str]) -> None:
    """Note what failed. Raises it where nothing can be said without: the reference."""
    if subject.model == "bundle" and subject.engine == REFERENCE:
        raise error
    left_out.append(str(error))


def _take_turns(timed: list[_Timed], rounds: int, left_out: list[str], console: Console) -> None:
    """Take times in rounds; what fails is taken out of `timed`."""
    turns = rounds * sum(len(t.batches) for t in timed)
    with progress(console, "timing", turns) as advance:
        for _ in range(rounds):
            for one in list(timed):
                try:
                    for batch in one.batches:
                        one.take(batch)
                        advance(1)
                except EngineError as error:
                    timed.remove(one)
                    _leave_out(one.worker.subject, error, left_out)


def _judge(
    timed: Sequence[_Timed], samples: Sequence[Sample], left_out: list[str], console: Console
) -> None:
    """Note by how much the bundle's engines differ from the reference in their figures."""
    bad = np.array([sample.label == "bad" for sample in samples])
    paths = [sample.path for sample in samples]
    bundled = [t for t in timed if t.worker.subject.model == "bundle"]
    reference: dict[str, float | None] = {}
    with progress(console, "judging", len(bundled)) as advance:
        for one in bundled:
            try:
                found = image_metrics(bad, one.worker.scores(paths))
            except EngineError as error:
                _leave_out(one.worker.subject, error, left_out)
                continue
            reference = reference or found  # the first of them
            for name, value in found.items():
                base = reference[name]
                one.differences[name] = None if value is None or base is None else value - base
            advance(1)


def _rates(timed: Sequence[_Timed]) -> dict[str, float]:
    """Multiply-adds a second of a matrix product, by precision: the fastest seen."""
    return {
        t.worker.ready.precision: 1000 * t.multiply_adds / min(map(min, t.rounds[1]))
        for t in timed
        if t.is_product
    }


def _row(one: _Timed, batch: int, rates: dict[str, float]) -> Row:
    subject, ready = one.worker.subject, one.worker.ready
    rounds = one.rounds[batch]
    median_ms = statistics.median(statistics.median(times) for times in rounds)
    every = sorted(time for times in rounds for time in times)
    rate = rates.get(ready.precision) if subject.runtime in _RUNTIMES else None
    return Row(
        model=subject.model,
        engine=subject.runtime,
        precision=ready.precision,
        batch=batch,
        median_ms=median_ms,
        p99_ms=every[int(0.99 * len(every))],
        images_per_second=1000 * batch / median_ms,
        peak_memory_mb=one.peak_mb[batch],
        score_difference=ready.score_difference,
        i_auroc_difference=one.differences.get("i_auroc"),
        ap_det_difference=one.differences.get("ap_det"),
        multiply_adds=one.multiply_adds,
        bound_ms=None if rate is None else 1000 * batch * one.multiply_adds / rate,
    )
