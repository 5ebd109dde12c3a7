"""Memory that is freed is there for the next step."""

import subprocess
import sys

_FAULTS = """
import resource, sys
import torch
from ssn_trainer.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(8):
    torch.ones(16, 1024, 1024).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(16, 1024, 1024).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_step_does_not_take_its_memory_from_the_system_anew() -> None:
    kept, given_back = (
        int(subprocess.check_output([sys.executable, "-c", _FAULTS, mode]))
        for mode in ("keep", "give back")
    )
    assert kept < 0.8 * given_back  # where memory is short, the kernel itself takes some back
