"""What the agent's processes take of the memory."""

import psutil

from support.agent import Agent


def agent_memory_mib(agent: Agent) -> dict[str, float]:
    """Return what each process of the agent has to itself (its USS), in MiB, by name."""
    assert agent.process is not None
    top = psutil.Process(agent.process.pid)
    found = {"supervisor": own_mib(top)}
    for child in top.children():
        command = child.cmdline()
        modules = [part for part in command if part.startswith("ssn_agent.")]
        if not modules:
            continue
        name = modules[0].split(".")[1]
        cameras = [*agent.others, "left"]
        camera = next((part for part in command if part in cameras), None)
        found[f"{name}:{camera}" if camera else name] = own_mib(child)
    return found


def own_mib(process: psutil.Process) -> float:
    """Return what a process has to itself, in MiB.

    Not its share of what others map, too (PSS): that of a library grows when another program ends.
    """
    return float(process.memory_full_info().uss) / 2**20
