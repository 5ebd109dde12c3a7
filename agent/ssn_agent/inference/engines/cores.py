"""The processor: how many threads are worth it, and what it is called."""

import os
from collections.abc import Iterable
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")


def physical_cores(cpus: Iterable[int] = ()) -> int:
    """Return how many physical cores are behind these processors; SMT does not count.

    Without any they are those that this process may use.

    Two threads of one core share the units that multiply, so more threads than cores are slower.
    """
    allowed = set(cpus) or os.sched_getaffinity(0)
    siblings = {_siblings(cpu) for cpu in allowed}
    return len(siblings)


def _siblings(cpu: int) -> str:
    """The threads of a processor's core, as the kernel lists them; itself where it does not."""
    try:
        return (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def processor() -> dict[str, str]:
    """Return the first processor of /proc/cpuinfo, such as its `model name` and `flags`."""
    first = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
