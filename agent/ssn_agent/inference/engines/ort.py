"""ONNX Runtime: on the CPU, on CUDA, and through TensorRT."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import EngineError
from ssn_agent.inference.engines.cores import physical_cores
from ssn_agent.inference.engines.engine import Answer, Engine, Port, in_one_line
from ssn_agent.inference.settings import MAX_BATCH

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state
except ImportError as error:
    msg = f"ONNX Runtime is not to be had ({error}); run: pip install 'ssn-inspect[agent,cpu]'"
    raise EngineError(msg) from error

Provider = tuple[str, Mapping[str, str]]
"""A name of ONNX Runtime's, and its options."""

CPU: Provider = ("CPUExecutionProvider", {})

_Bound = tuple["ort.IOBinding", "ort.OrtValue", tuple["ort.OrtValue", ...]]
"""A binding, its input and its outputs."""

# ONNX Runtime's errors share no base class, and which there are differs between its builds.
_ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    item
    for item in vars(onnxruntime_pybind11_state).values()
    if isinstance(item, type) and issubclass(item, Exception)
)
_ERRORS: tuple[type[Exception], ...] = (*_ORT_ERRORS, RuntimeError, ValueError)


class OrtEngine(Engine):
    """A graph in ONNX Runtime, on the first of its providers."""

    def __init__(
        self,
        name: str,
        model: bytes,
        height: int,
        width: int,
        threads: int,
        *providers: Provider,
    ) -> None:
        """Load a graph for inputs of height x width; threads 0: one a physical core.

        Raises EngineError where the graph does not load, has other inputs and outputs, or where the
        first provider does not start (ONNX Runtime would go on with the next and say nothing).
        """
        options = ort.SessionOptions()
        # Left to itself it pins its threads, also to cores that this process may not use.
        options.intra_op_num_threads = threads or physical_cores()
        options.inter_op_num_threads = 1
        # Spinning takes the cores that capture and ledger need between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=list(providers))
        except _ERRORS as error:
            msg = f"the model does not load in ONNX Runtime: {in_one_line(error)}; pack it anew"
            raise EngineError(msg) from error
        started = self._session.get_providers()[0]
        if started != providers[0][0]:
            msg = f"{name}: {providers[0][0]} does not start here (see the log); {started} would"
            raise EngineError(msg)
        inputs = [_port(item) for item in self._session.get_inputs()]
        outputs = [_port(item) for item in self._session.get_outputs()]
        super().__init__(name, height, width, inputs, outputs)

    def _run(self, inputs: NDArray[np.uint8]) -> Answer:
        try:
            scores, maps = self._session.run(["score", "map"], {"image": inputs})
        except _ERRORS as error:
            raise _failed(self.name, inputs, error) from error
        return scores, maps


class OrtCpuEngine(OrtEngine):
    """ONNX Runtime on the CPU: it starts everywhere."""

    def __init__(
        self, model: bytes, height: int, width: int, threads: int = 0, precision: str = "fp32"
    ) -> None:
        """See `OrtEngine`; `precision` says what the graph computes in."""
        super().__init__(f"onnxruntime-cpu/{precision}", model, height, width, threads, CPU)


class BoundEngine(OrtEngine):
    """A graph on a device, whose inputs and outputs keep their place in its memory.

    A frame is copied there, its answer back, and nothing else is copied or allocated.
    """

    device = "cuda"
    max_batch = MAX_BATCH

    def __init__(
        self, name: str, model: bytes, height: int, width: int, threads: int, *providers: Provider
    ) -> None:
        """See `OrtEngine`."""
        super().__init__(name, model, height, width, threads, *providers)
        self._bindings: dict[tuple[int, ...], _Bound] = {}

    def _run(self, inputs: NDArray[np.uint8]) -> Answer:
        try:
            binding, image, outputs = self._bound(inputs.shape)
            image.update_inplace(inputs)
            self._session.run_with_iobinding(binding)
            scores, maps = (np.array(value.numpy()) for value in outputs)
        except _ERRORS as error:
            raise _failed(self.name, inputs, error) from error
        return scores, maps

    def _bound(self, shape: tuple[int, ...]) -> "_Bound":
        """The binding for a batch of this shape [N, H, W, 3]; made when the first one comes."""
        if shape in self._bindings:
            return self._bindings[shape]
        value = ort.OrtValue.ortvalue_from_shape_and_type
        image = value(shape, np.uint8, self.device, 0)
        outputs = {
            "score": value(shape[:1], np.float32, self.device, 0),
            "map": value(shape[:3], np.float32, self.device, 0),
        }
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("image", image)
        for name, output in outputs.items():
            binding.bind_ortvalue_output(name, output)
        self._bindings[shape] = found = binding, image, tuple(outputs.values())
        return found


def cuda_engine(model: bytes, height: int, width: int, threads: int, precision: str) -> BoundEngine:
    """Load a graph on the first NVIDIA GPU. Raises EngineError."""
    return BoundEngine(
        f"onnxruntime-cuda/{precision}", model, height, width, threads, _cuda(precision), CPU
    )


def tensorrt_engine(
    model: bytes, height: int, width: int, threads: int, cache: Path
) -> BoundEngine:
    """Load an fp16 graph through TensorRT; what it builds in minutes is kept in the folder `cache`.

    What TensorRT does not take runs on CUDA. Raises EngineError.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{cache}: cannot be made for TensorRT's engines ({error.strerror})"
        raise EngineError(msg) from error
    image = f"image:{{}}x{height}x{width}x3".format
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_fp16_enable": "1",  # without it a graph in fp16 is refused
        # Without these it builds anew for each size of batch that comes.
        "trt_profile_min_shapes": image(1),
        "trt_profile_opt_shapes": image(1),
        "trt_profile_max_shapes": image(MAX_BATCH),
    }
    return BoundEngine(
        "onnxruntime-tensorrt/fp16",
        model,
        height,
        width,
        threads,
        ("TensorrtExecutionProvider", options),
        _cuda("fp16"),
        CPU,
    )


def providers() -> frozenset[str]:
    """Return the providers that this build of ONNX Runtime has."""
    return frozenset(ort.get_available_providers())


def _cuda(precision: str) -> Provider:
    # TF32 keeps 10 bits: fp32 would not reproduce the vectors.
    options = {"use_tf32": "0" if precision == "fp32" else "1"}
    return "CUDAExecutionProvider", options


def _port(item: "ort.NodeArg") -> Port:
    kind = str(item.type).removeprefix("tensor(").removesuffix(")")
    # A free dimension has a name, or nothing.
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return Port(item.name, kind, shape)


def _failed(name: str, inputs: NDArray[np.uint8], error: Exception) -> EngineError:
    why = in_one_line(error)
    return EngineError(f"{name}: ONNX Runtime failed on a batch of {len(inputs)}: {why}")
