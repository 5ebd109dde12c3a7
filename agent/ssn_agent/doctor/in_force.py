"""Which settings are looked at: those of the agent that runs here, else the file's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ssn_agent.doctor.findings import Finding, ok, unknown, warning
from ssn_agent.metrics.view import NotRunning, Unreadable, look, running_settings
from ssn_agent.settings import Settings
from ssn_agent.supervisor.reload import reload
from ssn_contract.metrics import StationMetrics

CHECK = "settings"


def settings_found(
    config: Path, settings: Settings
) -> tuple[list[Finding], Settings, StationMetrics | None]:
    """Return what is found of the file's settings, those in force, and the agent's figures."""
    found = [ok(f"{config}: sound, digest {settings.digest[:12]}")]
    running, metrics = settings, None
    try:
        running = running_settings(settings.runtime_dir)
        metrics = look(settings.runtime_dir)
        found += _not_in_force(running, settings)
    except NotRunning:
        pass
    except Unreadable as error:
        found.append(unknown(str(error), "sudo ssn-agent doctor sees more"))
    return [replace(one, check=CHECK) for one in found], running, metrics


def _not_in_force(running: Settings, settings: Settings) -> Iterator[Finding]:
    """Say what the agent does not know yet of what the file says."""
    changes = reload(running, settings)
    if changes.wants_restart:
        keys = ", ".join(changes.wants_restart)
        yield warning(f"the agent runs with other {keys}", "systemctl restart ssn-agent")
    if changes.changed:
        keys = ", ".join(changes.changed)
        yield warning(f"the agent runs with other {keys}", "systemctl reload ssn-agent")
