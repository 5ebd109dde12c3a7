"""The fuzzer's targets hold for some examples: `make fuzz` takes them further."""

import pytest
from hypothesis import HealthCheck, settings

from chaos.fuzz_targets import TARGETS, capture_running

FEW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", TARGETS)
def test_an_input_that_is_not_what_it_should_be_ends_in_a_stated_error(name: str) -> None:
    if name != "zeromq_messages":
        FEW(TARGETS[name])()
        return
    with capture_running():
        FEW(TARGETS[name])()
