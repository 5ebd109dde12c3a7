"""OpenVINO's own runtime, on the CPU. It reads the same ONNX bytes."""

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import EngineError
from ssn_agent.inference.engines.cores import physical_cores
from ssn_agent.inference.engines.engine import Answer, Engine, Port, in_one_line

try:
    import openvino as ov
except ImportError as error:
    msg = f"OpenVINO is not to be had ({error}); run: pip install 'ssn-inspect[openvino]'"
    raise EngineError(msg) from error

_HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is not quantised in an int8 graph stays fp32, as in ONNX Runtime: one calibration, one twin.
Left to itself OpenVINO takes bf16 where the processor has it, also for fp32 graphs."""


class OpenVinoEngine(Engine):
    """A graph in OpenVINO."""

    def __init__(
        self, model: bytes, height: int, width: int, threads: int = 0, precision: str = "fp32"
    ) -> None:
        """Load a graph for inputs of height x width; threads 0: one a physical core.

        Raises EngineError where the graph does not load or has other inputs and outputs.
        """
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINT[precision],
            "INFERENCE_NUM_THREADS": threads or physical_cores(),
            # Pinned threads cannot give way to capture and ledger.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = ov.Core()
            graph = core.read_model(model)
            compiled = core.compile_model(graph, "CPU", options)
            self._request = compiled.create_infer_request()
        except (RuntimeError, TypeError, ValueError) as error:
            msg = f"the model does not load in OpenVINO: {in_one_line(error)}; pack it anew"
            raise EngineError(msg) from error
        inputs, outputs = map(_port, compiled.inputs), map(_port, compiled.outputs)
        super().__init__(f"openvino/{precision}", height, width, list(inputs), list(outputs))

    def _run(self, inputs: NDArray[np.uint8]) -> Answer:
        try:
            self._request.infer({"image": inputs}, share_inputs=True)
            # The next run writes over what the request holds.
            scores = self._request.get_tensor("score").data.copy()
            maps = self._request.get_tensor("map").data.copy()
        except (RuntimeError, TypeError, ValueError) as error:
            why = in_one_line(error)
            msg = f"{self.name}: OpenVINO failed on a batch of {len(inputs)}: {why}"
            raise EngineError(msg) from error
        return scores, maps


def _port(item: "ov.ConstOutput") -> Port:
    shape = tuple(
        None if size.is_dynamic else size.get_length() for size in item.get_partial_shape()
    )
    return Port(item.get_any_name(), item.get_element_type().to_dtype().name, shape)
