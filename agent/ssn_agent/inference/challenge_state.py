"""How a camera's challenge stands, in a file: `data_dir/challenges/CAMERA.json`.

The inference process alone writes it, before a result that fails a challenge is one: so neither its
death nor the machine's lets a camera that has failed judge on. The ledger process reads it.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import ChallengeError
from ssn_contract.challenge import ChallengeKind
from ssn_contract.manifest import Digest
from ssn_contract.messages import (
    ChallengeState,
    Goodness,
    InvalidReason,
    Labeller,
    LabelReason,
    PartId,
    VerdictKind,
    _Line,
)

KEPT_EVENTS = 512
"""So many of the newest are in the file: the ledger may be away that long."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Item(_Model):
    """A picture, or a pattern of part ids, that is known to be good or bad."""

    kind: ChallengeKind
    expected: Goodness
    name: str


class ItemState(_Model):
    """How an item was judged since the challenge was due last; None: it is still to come."""

    item: Item
    is_right: bool | None = None


class Event(_Model):
    """What happened: an item was judged, or the challenge became due, overdue or was cleared."""

    id: UUID
    at: datetime
    what: Literal["judged", "due", "overdue", "cleared"]
    item: Item | None = None
    """Of `judged`, as the fields up to `is_right`."""
    part_id: PartId | None = None
    verdict: VerdictKind | None = None
    reason: InvalidReason | None = None
    score: float | None = None
    bundle_digest: Digest | None = None
    is_right: bool | None = None
    who: Labeller | None = None
    """Of what a person asked for."""
    why: LabelReason | None = None
    """For people."""


class Standing(_Model):
    """All of it."""

    schema_version: Literal[1] = 1
    state: ChallengeState
    since: datetime
    due_at: datetime
    """When it became due last."""
    awaited_since: datetime | None
    """Since when anything is still to come; None: nothing is."""
    judged_by: str = ""
    """What the pictures were judged by, or are to be: another bundle or threshold is a new case."""
    items: tuple[ItemState, ...]
    events: tuple[Event, ...] = ()
    """The newest, the oldest of them first."""


class Request(_Model):
    """What a command asks for; its file is gone when it is done."""

    id: UUID
    what: Literal["run", "clear"]
    who: Annotated[Labeller, _Line]
    why: Annotated[LabelReason, _Line] | None = None


def challenge_file(data_dir: Path, camera: str) -> Path:
    """Return where a camera's standing is."""
    return data_dir / "challenges" / f"{camera}.json"


def read_standing(path: Path) -> Standing | None:
    """Return how it stands; None: there is no file yet. Raises ChallengeError."""
    try:
        return Standing.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        msg = f"{path}: cannot be read ({error}); the challenge is due anew"
        raise ChallengeError(msg) from error


def write_standing(path: Path, standing: Standing) -> None:
    """Have it on the disk. Raises ChallengeError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, standing.model_dump_json().encode(), 0o644)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); check the disk and its rights"
        raise ChallengeError(msg) from error


def read_request(path: Path) -> Request | None:
    """Return what is asked for; None: nothing. Raises ChallengeError where it is no request."""
    try:
        return Request.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ChallengeError(f"{path}: no request ({error})") from error
