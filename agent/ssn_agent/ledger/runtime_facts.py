"""What scores come from beside bundle and picture: the same of all gives the same bits again."""

import hashlib
import platform

from ssn_agent import __version__
from ssn_agent.inference.engines.cores import physical_cores, processor
from ssn_agent.inference.engines.versions import versions
from ssn_agent.settings import Settings


def runtime_facts(engine: str, settings: Settings) -> dict[str, str | int]:
    """Return what an engine (`engine/precision`) runs on here. Loads no runtime.

    The ledger keeps it when an engine begins to judge, and a replay compares it with its own.
    """
    inference, cpu = settings.inference, processor()
    # What an ARM processor says: it has no name there.
    arm = " ".join(cpu[key] for key in ("CPU implementer", "CPU part") if key in cpu)
    flags = sorted(cpu.get("flags", cpu.get("Features", "")).split())
    return {
        "agent": __version__,
        "engine": engine,
        "runtime": versions(engine),
        "threads": inference.threads or physical_cores(inference.cpus),
        "cpu": cpu.get("model name") or arm or platform.machine(),
        "cpu_flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16],
    }
