"""What the supervisor has to say on `status`: a file in the runtime directory."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.log import logger
from ssn_contract.messages import ProcessStatus, SettingsStatus


class SupervisorNote(BaseModel):
    """How the processes and the settings are."""

    model_config = ConfigDict(frozen=True)

    processes: list[ProcessStatus] = []
    pids: dict[str, int] = {}
    """Of those that run, by their names."""
    alarms: list[str] = []
    settings: SettingsStatus | None = None
    changed_by: str = "start"
    """What brought the settings into force."""


def write_note(path: Path, note: SupervisorNote) -> bool:
    """Write it, whole or not at all; say whether it is written: a full folder costs it alone."""
    try:
        write_atomically(path, note.model_dump_json().encode())
    except OSError as error:
        logger().error("the supervisor's note is not written", problem=str(error))
        return False
    return True


def read_note(path: Path) -> SupervisorNote:
    """Return what the supervisor says; nothing where there is no note of this version."""
    try:
        return SupervisorNote.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return SupervisorNote()
