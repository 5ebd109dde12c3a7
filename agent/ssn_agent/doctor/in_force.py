"""Which settings are looked at: those of the agent that runs here, else the file's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ssn_agent.doctor.account import Account
from ssn_agent.doctor.findings import Finding, Subject, ok, unknown, warning
from ssn_agent.metrics.view import NotRunning, Unreadable, look, running_settings
from ssn_agent.settings import Settings
from ssn_agent.supervisor.reload import reload

CHECK = "settings"


def subject_found(
    config: Path, settings: Settings, account: Account
) -> tuple[list[Finding], Subject]:
    """Return what is found of the file's settings, and the station to look at."""
    found = [ok(f"{config}: sound, digest {settings.digest[:12]}")]
    subject = Subject(config, settings, account)
    try:
        running = running_settings(settings.runtime_dir)
        subject = Subject(config, running, account, look(settings.runtime_dir), may_run=True)
        found += _not_in_force(running, settings)
    except NotRunning:
        pass
    except Unreadable as error:
        subject = replace(subject, may_run=True)
        found.append(unknown(str(error), "sudo ssn-agent doctor sees more"))
    return [replace(one, check=CHECK) for one in found], subject


def _not_in_force(running: Settings, settings: Settings) -> Iterator[Finding]:
    """Say what the agent does not know yet of what the file says."""
    changes = reload(running, settings)
    if changes.wants_restart:
        keys = ", ".join(changes.wants_restart)
        yield warning(f"the agent runs with other {keys}", "systemctl restart ssn-agent")
    if changes.changed:
        keys = ", ".join(changes.changed)
        yield warning(f"the agent runs with other {keys}", "systemctl reload ssn-agent")
