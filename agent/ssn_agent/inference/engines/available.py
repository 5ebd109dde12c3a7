"""Which engines there are on this machine, and how one of them starts: the one place that knows."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from ssn_agent.errors import EngineError
from ssn_agent.inference.engines.cores import processor
from ssn_agent.inference.engines.engine import Engine
from ssn_agent.inference.engines.opset import check_opset
from ssn_agent.inference.engines.versions import versions
from ssn_agent.inference.settings import EngineName

REFERENCE: EngineName = "onnxruntime-cpu/fp32"
"""It starts everywhere, and what the vectors expect are its answers."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)

_PROVIDERS = {
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_NVIDIA_DEVICES = ("nvidia0", "nvhost-gpu", "nvgpu")
"""A PC's first GPU, and a Jetson's."""
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Options:
    """What an engine is started with, besides the graph."""

    threads: int = 0
    """0: one a physical core."""
    cache: Path | None = None
    """A folder for what an engine builds from this very graph; TensorRT does not start without."""


_DEFAULTS = Options()


def available_engines() -> dict[EngineName, str]:
    """Return what may be tried here, each with the versions of what it runs on. Starts nothing."""
    return {name: versions(name) for name in ENGINES if why_not(name) is None}


def why_not(name: str) -> str | None:
    """Return why an engine cannot be had here and what to do; None where it can be tried."""
    runtime, _, precision = name.partition("/")
    module = runtime.partition("-")[0]
    if name not in ENGINES:
        return f"{name} is no engine of ours; there are {', '.join(ENGINES)}"
    if find_spec(module) is None:
        extra = "cpu" if module == "onnxruntime" else module
        return f"{name}: {module} is not installed; run: pip install 'ssn-inspect[agent,{extra}]'"
    provider = _PROVIDERS.get(runtime)
    if provider is not None:
        return _why_no_provider(name, provider)
    if runtime == "openvino" and precision == "bf16" and not _has_bf16():
        return f"{name}: this processor has no bf16; take openvino/fp32"
    return None


def start_engine(
    name: str, model: bytes, height: int, width: int, options: Options = _DEFAULTS
) -> Engine:
    """Load a graph for inputs of height x width on an engine, named as in the settings.

    Raises EngineError where the engine is not to be had, or the graph does not load or fit.
    """
    problem = why_not(name)
    if problem is not None:
        raise EngineError(problem)
    check_opset(model)
    runtime, _, precision = name.partition("/")
    if runtime == "openvino":
        from ssn_agent.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, height, width, options.threads, precision)
    from ssn_agent.inference.engines import ort

    if runtime == "onnxruntime-cpu":
        return ort.OrtCpuEngine(model, height, width, options.threads, precision)
    if runtime == "onnxruntime-cuda":
        return ort.cuda_engine(model, height, width, options.threads, precision)
    if options.cache is None:
        msg = f"{name}: has no folder to keep what it builds in; give it one"
        raise EngineError(msg)
    return ort.tensorrt_engine(model, height, width, options.threads, options.cache)


def _why_no_provider(name: str, provider: str) -> str | None:
    from ssn_agent.inference.engines.ort import providers

    if provider not in providers():
        return (
            f"{name}: this build of ONNX Runtime has no {provider}; install onnxruntime-gpu in its "
            "place ('ssn-inspect[agent,gpu]', on a Jetson NVIDIA's own wheel)"
        )
    if not any(Path("/dev", device).exists() for device in _NVIDIA_DEVICES):
        return f"{name}: there is no NVIDIA GPU in /dev; check its driver"
    return None


def _has_bf16() -> bool:
    return not _BF16_FLAGS.isdisjoint(processor().get("flags", "").split())
