"""Python, and what is installed beside the agent."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from importlib.util import find_spec

from ssn_agent import __version__
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, warning

SUPPORTED = ((3, 10), (3, 13))


def software(subject: Subject) -> Iterator[Finding]:
    """Versions that go together."""
    del subject
    first, last = SUPPORTED
    version = f"agent {__version__}, Python {platform.python_version()}"
    if first <= sys.version_info[:2] <= last:
        yield ok(version)
    else:
        do = f"install it with Python {first[0]}.{first[1]} to {last[0]}.{last[1]}"
        yield warning(f"{version}, which nobody has tried", do)


def runtime(subject: Subject) -> Iterator[Finding]:
    """ONNX Runtime, once: the builds for processor and GPU overwrite each other's files."""
    del subject
    found = sorted(name for name in installed() if name.startswith("onnxruntime"))
    if len(found) > 1:
        do = f"pip uninstall {' '.join(found)}; then install the one for this box"
        yield fault(f"{' and '.join(found)} are installed, in each other's place", do)
    elif found:
        yield ok(f"{found[0]} {installed()[found[0]]}")
    elif find_spec("onnxruntime") is not None:
        yield ok("onnxruntime, built for this machine")
    else:
        yield fault("onnxruntime is not installed", "pip install 'ssn-inspect[agent,cpu]'")


def installed() -> dict[str, str]:
    """Return all distributions of this environment with their versions."""
    found = {one.metadata["Name"]: one.version for one in distributions()}
    return {name.lower().replace("_", "-"): found[name] for name in sorted(found) if name}
