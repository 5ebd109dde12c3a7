"""What a command asks of the updates process: one file in the runtime directory, whole or absent.

The file goes when the updates process has done it, or has said in the log why it cannot be done.
"""

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import MessageError, UpdateError
from ssn_contract.manifest import Digest, Name

MAX_REQUEST_BYTES = 4096


class Request(BaseModel):
    """Go back from what judges a followed name, or have a refused bundle tried again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID = Field(default_factory=uuid4)
    """Of the step that follows: a request that is read twice is done once."""
    action: Literal["rollback", "retry"]
    follows: Name | None = None
    """Of `rollback`: the name that is followed."""
    digest: Digest | None = None
    """Of `retry`: the bundle that was refused."""
    by: Annotated[str, Field(min_length=1, max_length=120)]
    """Who asks."""

    @model_validator(mode="after")
    def _names_its_object(self) -> "Request":
        wanted = {"rollback": (True, False), "retry": (False, True)}[self.action]
        if (self.follows is not None, self.digest is not None) != wanted:
            raise ValueError("a rollback names what is followed, a retry a digest, and no more")
        return self


def write_request(path: Path, request: Request) -> None:
    """Ask. Raises UpdateError where something else is asked already, or it cannot be written."""
    if path.exists():
        msg = f"{path}: another request has not been taken yet; is the agent running? Ask again"
        raise UpdateError(msg)
    try:
        write_atomically(path, request.model_dump_json().encode())
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); ask as root or as the agent's user"
        raise UpdateError(msg) from error


def read_request(path: Path) -> Request | None:
    """Return what is asked, None where nothing is. Raises UpdateError where it is no request."""
    try:
        with path.open("rb") as file:
            return Request.model_validate_json(file.read(MAX_REQUEST_BYTES + 1))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = MessageError.of(error, "it") if isinstance(error, ValidationError) else error
        msg = f"{path}: what is asked cannot be read ({why}); ask again"
        raise UpdateError(msg) from error


def forget_request(path: Path) -> None:
    """Remove what was asked, as it is done. Raises UpdateError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path}: cannot be removed ({error.strerror}); check the folder"
        raise UpdateError(msg) from error
