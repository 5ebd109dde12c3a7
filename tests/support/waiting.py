"""Waiting for something to become true, instead of guessing how long it takes."""

import time
from collections.abc import Callable

import pytest


def wait_until(condition: Callable[[], bool], timeout_s: float, problem: str) -> None:
    """Poll until the condition holds; fail the test with `problem` when the time is up."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= ends_at:
            pytest.fail(f"{problem} within {timeout_s} s")
        time.sleep(0.01)
