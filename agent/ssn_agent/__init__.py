"""The agent: a frame walks capture, frames, inference, ledger, publish. Never imports torch."""

import os
import sys
from importlib.metadata import version

__version__ = version("ssn-inspect")

# ONNX Runtime and OpenVINO tell their makers how they are used, unless somebody says no before they
# are loaded. What runs in a plant is nobody's business.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # "not to be had", in Python
