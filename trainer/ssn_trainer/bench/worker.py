"""One engine on one graph, timed in a process of its own: `python -m ssn_trainer.bench.worker ...`.

So its peak of memory is its own, and all of it is given back. Requests and answers are lines of
JSON. It imports no torch, but for the matrix product.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError, EngineError
from ssn_agent.frames.pixels import read_image, to_network_input
from ssn_agent.inference.calibration import PUBLISHED_THRESHOLD, calibrate
from ssn_agent.inference.engines.cores import physical_cores
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_agent.processes import end_with_parent
from ssn_contract.manifest import Calibration

Model = Literal["bundle", "published", "backbone", "matrix product"]

PRODUCT = 1024
"""Rows and columns of both matrices of the product."""
TIMEOUT_S = 900.0
"""TensorRT builds for minutes on a small box."""
_BATCH = 4
_STATUS = Path("/proc/self/status")

Call = Callable[[], object]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Subject(_Message):
    """What is timed, and on which engine."""

    model: Model
    runtime: str
    """As engines are named, before the `/`."""
    precision: str | None
    """None: what the runtime takes by itself."""
    path: Path
    """The bundle, or the graph."""
    frame: Path
    """uint8 [H, W] or [H, W, 3] as .npy: what a camera gives."""
    height: int
    width: int
    cache: Path

    @property
    def engine(self) -> str:
        """Return its name, as in the settings."""
        return f"{self.runtime}/{self.precision or 'default'}"


class Ready(_Message):
    """The subject is loaded."""

    precision: str
    score_difference: float | None = None
    """Of a bundle: the largest of its vectors, from what they expect (fp32 on the reference)."""


class Request(_Message):
    """Score `images` where there are any; else take times."""

    batch: int = 1
    seconds: float = 0.0
    images: tuple[Path, ...] = ()


class Times(_Message):
    """Durations of single runs, and the most memory that the process has held so far (VmHWM)."""

    times_ms: tuple[float, ...]
    peak_mb: float


class Scores(_Message):
    """Raw scores of images, in their order."""

    scores: tuple[float, ...]


class Problem(_Message):
    """Why there is no answer."""

    problem: str


_Answer = TypeVar("_Answer", Ready, Times, Scores)


class Worker:
    """A worker's process, from outside."""

    def __init__(self, subject: Subject) -> None:
        """Start it and wait until it is ready. Raises EngineError."""
        self.subject = subject
        module = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(
            [*module, subject.model_dump_json(), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the command's to act on
        )
        try:
            self.ready = self._read(Ready)
        except EngineError:
            self.close()
            raise

    def times(self, batch: int, seconds: float) -> Times:
        """Run for so long, once at least, after one run that does not count."""
        return self._ask(Request(batch=batch, seconds=seconds), Times)

    def scores(self, images: Sequence[Path]) -> NDArray[np.float64]:
        """Return raw scores [N] of image files. Raises EngineError."""
        return np.array(self._ask(Request(images=tuple(images)), Scores).scores)

    def close(self) -> None:
        """End it: what it holds of the memory is given back."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: Request, kind: type[_Answer]) -> _Answer:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101 -- it was opened above
        try:
            stream.write(request.model_dump_json().encode() + b"\n")
            stream.flush()
        except OSError as error:
            raise EngineError(f"{self._name}: its process died ({error.strerror})") from error
        return self._read(kind)

    def _read(self, kind: type[_Answer]) -> _Answer:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 -- likewise
        if not select.select([stream], [], [], TIMEOUT_S)[0]:
            raise EngineError(f"{self._name}: gave no answer for {TIMEOUT_S:.0f} s")
        line = stream.readline()
        try:
            return kind.model_validate_json(line)
        except ValidationError:
            pass  # a problem, or nothing
        try:
            raise EngineError(f"{self._name}: {Problem.model_validate_json(line).problem}")
        except ValidationError as error:
            raise EngineError(f"{self._name}: its process died (see standard error)") from error

    @property
    def _name(self) -> str:
        return f"{self.subject.model} on {self.subject.engine}"


class _Loaded(Protocol):
    """A subject that is ready."""

    ready: Ready

    def call(self, batch: int) -> Call:
        """Return what is timed."""


class _Bundled:
    """A bundle in the agent's own scorer: frame to score, verdict and map."""

    def __init__(self, subject: Subject) -> None:
        self._frame = np.load(subject.frame, allow_pickle=False)
        name = cast("EngineName", subject.engine)
        self._scorer = Scorer(Bundle.open(subject.path), engine=name, cache=subject.cache)
        difference = self._scorer.check_vectors()
        self.ready = Ready(precision=subject.precision or "", score_difference=difference)

    def call(self, batch: int) -> Call:
        """What is timed."""
        return self._single if batch == 1 else partial(self._batch, batch)

    def scores(self, images: Sequence[Path]) -> Scores:
        """Raw scores of image files."""
        size, found = self._scorer.input, []
        for start in range(0, len(images), _BATCH):
            batch = [
                to_network_input(read_image(path), size.height, size.width)
                for path in images[start : start + _BATCH]
            ]
            found += self._scorer.score_inputs(np.stack(batch))[0].tolist()
        return Scores(scores=tuple(found))

    def _single(self) -> object:
        scored = self._scorer.score(self._frame)
        return scored.score >= PUBLISHED_THRESHOLD, scored.map

    def _batch(self, count: int) -> object:
        scorer = self._scorer
        height, width = scorer.input.height, scorer.input.width
        inputs = np.stack([to_network_input(self._frame, height, width) for _ in range(count)])
        raw, maps = scorer.score_inputs(inputs)
        return calibrate(raw, scorer.precision.score) >= PUBLISHED_THRESHOLD, maps


class _Plain:
    """A graph in a runtime's default settings. The published one from frame to verdict and map;
    the backbone from an image of its own size."""

    def __init__(self, subject: Subject) -> None:
        self._frame = np.load(subject.frame, allow_pickle=False)
        self._size = subject.height, subject.width
        start = _start_openvino if subject.runtime == "openvino" else _start_onnxruntime
        precision, self._run = start(subject)
        self._published = subject.model == "published"
        self.ready = Ready(precision=precision)

    def call(self, batch: int) -> Call:
        """What is timed."""
        if self._published:
            return partial(self._judge, batch)
        return partial(self._run, self._inputs(batch))

    def _inputs(self, count: int) -> NDArray[np.uint8]:
        return np.stack([to_network_input(self._frame, *self._size) for _ in range(count)])

    def _judge(self, count: int) -> object:
        raw, maps = self._run(self._inputs(count))
        return calibrate(raw, Calibration(threshold=0.0, slope=1.0)) >= PUBLISHED_THRESHOLD, maps


class _Product:
    """A product of two square matrices: how fast this processor multiplies at all."""

    def __init__(self, subject: Subject) -> None:
        import torch

        torch.set_num_threads(physical_cores())
        kind = torch.bfloat16 if subject.precision == "bf16" else torch.float32
        one, other = (torch.rand(PRODUCT, PRODUCT).to(kind) for _ in range(2))
        self._call = partial(torch.mm, one, other)
        self.ready = Ready(precision=subject.precision or "")

    def call(self, batch: int) -> Call:
        """What is timed; a batch is one product."""
        del batch
        return self._call


def _start_onnxruntime(subject: Subject) -> tuple[str, Callable[[NDArray[np.uint8]], Any]]:
    import onnxruntime as ort

    session = ort.InferenceSession(subject.path, providers=["CPUExecutionProvider"])
    return subject.precision or "fp32", lambda inputs: session.run(None, {"image": inputs})


def _start_openvino(subject: Subject) -> tuple[str, Callable[[NDArray[np.uint8]], Any]]:
    import openvino as ov

    hints = {None: {}, "bf16": {"INFERENCE_PRECISION_HINT": "bf16"}}
    hint = hints.get(subject.precision, {"INFERENCE_PRECISION_HINT": "f32"})
    core = ov.Core()
    compiled = core.compile_model(core.read_model(subject.path), "CPU", hint)
    taken = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    names = {"f32": "fp32", "f16": "fp16"}
    precision = subject.precision or names.get(taken, taken)
    return precision, lambda inputs: compiled(inputs, share_inputs=True).to_tuple()


def _times(call: Call, seconds: float) -> Times:
    call()
    times: list[float] = []
    ends_at = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends_at:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    peak_kib = int(lines["VmHWM"].split()[0])
    return Times(times_ms=tuple(times), peak_mb=peak_kib * 1024 / 1e6)


def _serve(subject: Subject, answer: Callable[[_Message], None]) -> None:
    kinds: dict[str, Callable[[Subject], _Loaded]]
    kinds = {"bundle": _Bundled, "matrix product": _Product}
    loaded = kinds.get(subject.model, _Plain)(subject)
    answer(loaded.ready)
    for line in sys.stdin.buffer:
        request = Request.model_validate_json(line)
        if isinstance(loaded, _Bundled) and request.images:
            answer(loaded.scores(request.images))
        else:
            answer(_times(loaded.call(request.batch), request.seconds))


def main(subject: str, parent: str) -> None:
    """Answer requests until there are no more."""
    end_with_parent(int(parent))
    # What a runtime prints goes to standard error: standard output has answers alone.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        try:
            _serve(
                Subject.model_validate_json(subject),
                lambda message: print(message.model_dump_json(), file=out),
            )
        except (AgentError, RuntimeError) as error:  # runtimes' errors are RuntimeErrors
            out.write(Problem(problem=" ".join(str(error).split())).model_dump_json() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
