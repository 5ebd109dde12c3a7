"""What runs a graph. One small interface; ONNX Runtime on the CPU is the first behind it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import EngineError

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state
except ModuleNotFoundError as error:
    msg = "no inference runtime is installed; run: pip install 'ssn-inspect[agent,cpu]'"
    raise EngineError(msg) from error

# ONNX Runtime's errors share no base class, and which there are differs between its builds.
_ORT_ERRORS = tuple(
    item
    for item in vars(onnxruntime_pybind11_state).values()
    if isinstance(item, type) and issubclass(item, Exception)
)


class Engine(Protocol):
    """A loaded graph: uint8 RGB [N, H, W, 3] in; raw scores [N] and raw maps [N, H, W] out."""

    name: str
    """`engine/precision`, as verdicts name it."""

    def run(self, inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score a batch. Raises EngineError where the engine fails."""
        ...


class OrtCpuEngine:
    """ONNX Runtime on the CPU, fp32."""

    name = "onnxruntime-cpu/fp32"

    def __init__(self, model: bytes, height: int, width: int, threads: int = 0) -> None:
        """Load a graph for inputs of height x width; threads 0: one a physical core.

        Raises EngineError where the graph does not load or has other inputs and outputs.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning takes the cores that capture and ledger need between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _ORT_ERRORS as error:
            msg = f"the model does not load in ONNX Runtime: {error}; pack it anew"
            raise EngineError(msg) from error
        inputs = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != [("image", "tensor(uint8)", [height, width, 3])] or outputs != [
            "score",
            "map",
        ]:
            msg = (
                f"the model takes {inputs} and gives {outputs}; expected one uint8 input `image` "
                f"[N, {height}, {width}, 3], and `score` and `map`; pack it anew"
            )
            raise EngineError(msg)

    def run(self, inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score a batch; see `Engine`."""
        try:
            scores, maps = self._session.run(["score", "map"], {"image": inputs})
        except _ORT_ERRORS as error:
            msg = f"ONNX Runtime failed on a batch of {len(inputs)}: {error}"
            raise EngineError(msg) from error
        wanted = (len(inputs),), (len(inputs), *inputs.shape[1:3])
        if (scores.shape, maps.shape) != wanted:
            msg = (
                f"the model answers with shapes {scores.shape} and {maps.shape}; expected "
                f"{wanted[0]} and {wanted[1]}; pack it anew"
            )
            raise EngineError(msg)
        if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
            msg = "the model answered with NaN or infinity; the bundle is unusable on this engine"
            raise EngineError(msg)
        return scores, maps
