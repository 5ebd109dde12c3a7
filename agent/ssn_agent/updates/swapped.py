"""What inference says of a swap: a note in the runtime directory, for each followed name."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_contract.manifest import Digest


class Swapped(BaseModel):
    """Which bundle judges where a name is followed, or why the one that should does not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: Digest
    """Of the bundle that was to judge."""
    problem: str | None = None
    """None: it does."""


def write_swapped(path: Path, note: Swapped) -> None:
    """Say so; the next start says it again, so no disk is waited for. Raises OSError."""
    write_atomically(path, note.model_dump_json().encode(), synced=False)


def read_swapped(path: Path) -> Swapped | None:
    """Return what inference says; None: nothing yet."""
    try:
        return Swapped.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
