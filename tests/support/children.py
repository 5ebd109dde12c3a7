"""Processes that run the tests' own modules: pytest finds these, a process by itself does not."""

import os
import sys


def environment() -> dict[str, str]:
    """Return our environment, with our modules where a new Python finds them."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
