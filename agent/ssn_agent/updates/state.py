"""What the updates process has decided, in one file: `data_dir/models.json`.

That process alone writes it. Inference reads there which bundle judges, the ledger process which
steps were taken; a step is true when the file that says so is on the disk.
"""

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import MessageError, UpdateError
from ssn_contract.manifest import Digest, Name, Version
from ssn_contract.messages import ModelStep

KEPT_EVENTS = 256
"""So many of the newest steps are in the file: the ledger may be away that long."""
KEPT_REFUSALS = 64
Stamp = tuple[int, int, int]
Figures = dict[str, float | int | str | None]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Stored(_Model):
    """A bundle in the store, verified when it came."""

    name: Name
    version: Version
    digest: Digest
    path: Path


class Event(_Model):
    """A step that was taken with a bundle."""

    id: UUID
    at: datetime
    follows: Name
    step: ModelStep
    bundle: Stored
    detail: Annotated[str, Field(max_length=1000)] | None = None
    figures: Figures = {}


class Tally(_Model):
    """What became of parts, as far as it can be a model's doing."""

    parts: int = 0
    """Judged, or INVALID for a reason that the model can have caused."""
    failed: int = 0
    invalid: int = 0
    """Of `parts`."""
    late: int = 0
    """Of `invalid`."""
    latency_ms: float | None = None
    """Median from trigger to result, of those that were judged."""
    latency_share: float | None = None
    """Median of that, as a share of the deadline."""


class Mark(_Model):
    """The last part of a camera before a bundle took over."""

    epoch: UUID
    sequence: int


class Phase(str, Enum):
    """Where a followed name stands."""

    IDLE = "idle"
    """Nothing is under way."""
    SHADOW = "shadow"
    """`candidate` is opened, tried, and scores what `in_force` judges, in a process of its own."""
    SWAPPING = "swapping"
    """`in_force` is to judge: inference loads it, and says when it does."""
    PROBATION = "probation"
    """`in_force` judges, and `before` is what is gone back to."""


class Followed(_Model):
    """What judges where this name is followed."""

    phase: Phase = Phase.IDLE
    since: datetime
    """When the phase began."""
    in_force: Stored | None = None
    """None: what the settings' `bundle` names."""
    before: Stored | None = None
    """What judged before it; None: what the settings' `bundle` names."""
    candidate: Stored | None = None
    refused: dict[Digest, str] = {}
    """Bundles that are not tried again by themselves, and why; the newest of them last."""
    attempts: int = 0
    """Shadows of `candidate` that were started and did not come to an end."""
    faults: int = 0
    """How often inference had been replaced when the swap began."""
    marks: dict[Name, Mark] = {}
    """Where each camera stood at the swap."""
    baseline: Tally = Tally()
    """What had become of parts before it."""
    foreseen: Tally = Tally()
    """What its shadow has seen of it."""


class ModelsState(_Model):
    """All of it."""

    schema_version: Literal[1] = 1
    followed: dict[Name, Followed] = {}
    events: list[Event] = []
    """The newest steps, the oldest of them first."""


def read_state(path: Path) -> ModelsState:
    """Return what is decided; nothing is where there is no file yet. Raises UpdateError."""
    try:
        return ModelsState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ModelsState()
    except (OSError, ValidationError) as error:
        why = MessageError.of(error, "it") if isinstance(error, ValidationError) else error
        msg = (
            f"{path}: cannot be read; what judges goes on, after a start the settings' bundles; "
            f"put it back from a backup, or delete it ({why})"
        )
        raise UpdateError(msg) from error


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes with each writing of the file; None: it is not there."""
    try:
        found = path.stat()
    except OSError:  # whoever reads it says why
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def write_state(path: Path, state: ModelsState) -> None:
    """Have it on the disk. Raises UpdateError."""
    try:
        write_atomically(path, state.model_dump_json(indent=1).encode(), 0o644)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); check the disk and its rights"
        raise UpdateError(msg) from error
