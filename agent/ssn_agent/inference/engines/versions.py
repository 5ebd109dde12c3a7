"""The versions of what an engine runs on. Loads none of it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_DISTRIBUTIONS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
"""What a runtime may be installed as, by its module."""
_ON_NVIDIA = ("onnxruntime-cuda", "onnxruntime-tensorrt")
_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release"))
"""What tells its version: on a PC, and on a Jetson."""
_LIBRARIES = Path("/etc/ld.so.cache")
"""Written anew by whatever installs a library, so also for CUDA, cuDNN and TensorRT."""


def versions(engine: str) -> str:
    """Return the versions of what an engine, named as in the settings, runs on."""
    runtime = engine.partition("/")[0]
    version_ = _version(runtime.partition("-")[0])
    return f"{version_}, {_nvidia()}" if runtime in _ON_NVIDIA else version_


def _nvidia() -> str:
    """The driver, and when libraries and Python packages were last installed."""
    driver = [path.read_text("utf-8", "replace").strip() for path in _DRIVER if path.exists()]
    runtime = find_spec("onnxruntime")
    packages = [Path(runtime.origin).parents[1]] if runtime and runtime.origin else []
    installed = [path.stat().st_mtime_ns for path in (_LIBRARIES, *packages) if path.exists()]
    return f"{driver} {installed}"


def _version(module: str) -> str:
    for distribution in _DISTRIBUTIONS.get(module, ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"  # built from source, as on some Jetsons
