"""What the processes may take of the memory, and what there is."""

from collections.abc import Iterator
from pathlib import Path

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, warning
from ssn_agent.settings import Settings

MIB = 2**20


def memory(subject: Subject) -> Iterator[Finding]:
    """Limits against the machine, and against what the processes take."""
    limits = _limits(subject.settings)
    total = _total_mib()
    largest, mib = max(limits.items(), key=lambda item: item[1])
    wanted = sum(limits.values())
    if mib > total:
        what = f"memory.{_key(largest)} is {mib} MiB, and this machine has {total}"
        do = "lower it: the kernel kills at random before the agent replaces the one at fault"
        yield fault(what, do)
    elif wanted > total:
        what = f"all processes together may take {wanted} MiB, and this machine has {total}"
        yield warning(what, "lower memory.*_mib, where they take less (ssn-agent status)")
    else:
        yield ok(f"{total} MiB; the processes may take {wanted} MiB")
    for process in subject.metrics.processes if subject.metrics else ():
        if process.over_memory:
            what = f"{process.name}: was replaced {process.over_memory} times for its memory"
            yield fault(what, f"raise memory.{_key(process.name)}, where there is more")


def _limits(settings: Settings) -> dict[str, int]:
    """Return what each process may take, in MiB."""
    limits = settings.memory
    found = {f"capture:{name}": limits.capture_mib for name in settings.cameras}
    found |= {"inference": limits.inference_mib, "ledger": limits.ledger_mib}
    if settings.followed:
        found["updates"] = limits.updates_mib
    return found | ({"http": limits.http_mib} if settings.http.port else {})


def _key(process: str) -> str:
    return f"{process.partition(':')[0]}_mib"


def _total_mib() -> int:
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024 // MIB
    msg = "/proc/meminfo has no MemTotal"
    raise OSError(msg)
