"""What the agent's processes take of the memory."""

import psutil

from support.agent import Agent


def agent_memory_mib(agent: Agent) -> dict[str, float]:
    """Return what each process of the agent has to itself (its PSS), in MiB, by name."""
    assert agent.process is not None
    top = psutil.Process(agent.process.pid)
    found = {"supervisor": pss_mib(top)}
    for child in top.children():
        command = child.cmdline()
        modules = [part for part in command if part.startswith("ssn_agent.")]
        if not modules:
            continue
        name = modules[0].split(".")[1]
        cameras = [*agent.others, "left"]
        camera = next((part for part in command if part in cameras), None)
        found[f"{name}:{camera}" if camera else name] = pss_mib(child)
    return found


def pss_mib(process: psutil.Process) -> float:
    """Return what a process has to itself, in MiB."""
    return float(process.memory_full_info().pss) / 2**20
