"""What a site's authority has issued and revoked: `register.json`, beside its key."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import ProvisionError
from ssn_contract.manifest import Name, Time

FILE = "register.json"
ClientRole = Literal["dashboard", "controller", "publisher"]
Role = Literal["broker", "station"] | ClientRole
Serial = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]


class Holder(BaseModel):
    """Whom a certificate is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """How people call it: `broker`, site/line/station, or a client's name."""
    role: Role
    line: Name | None = None
    """A client's that has rights at one line alone."""

    @property
    def common_name(self) -> str:
        """Return what the broker takes as the user's name."""
        return f"client:{self.name}" if self.is_client else self.name

    @property
    def is_client(self) -> bool:
        """Say whether its rights stand in the ACL by name."""
        return self.role not in ("broker", "station")


class Entry(Holder):
    """A certificate."""

    serial: Serial
    expires_at: Time
    revoked_at: Time | None = None


class Site(BaseModel):
    """The register. A certificate is entered before its file exists: none is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    hosts: Annotated[list[str], Field(min_length=1)]
    """Of the broker; the first is the one that stations connect to."""
    issued: list[Entry] = []
    """Oldest first; of a name, a later one has taken the place of those before."""

    def entries(self, name: str) -> list[Entry]:
        """Return those of a name that are not revoked, oldest first."""
        return [e for e in self.issued if e.name == name and e.revoked_at is None]

    def in_force(self) -> Iterator[Entry]:
        """Yield the newest of each name, where it is not revoked."""
        newest = {entry.name: entry for entry in self.issued}
        return (entry for entry in newest.values() if entry.revoked_at is None)

    def revoked(self) -> Iterator[tuple[str, datetime]]:
        """Yield serial numbers and when they were revoked."""
        return ((e.serial, e.revoked_at) for e in self.issued if e.revoked_at is not None)

    def with_entry(self, entry: Entry) -> "Site":
        """Return it with one more."""
        return self.model_copy(update={"issued": [*self.issued, entry]})

    def with_revoked(self, serials: set[str], now: datetime) -> "Site":
        """Return it with these revoked."""
        issued = [
            e.model_copy(update={"revoked_at": now}) if e.serial in serials else e
            for e in self.issued
        ]
        return self.model_copy(update={"issued": issued})


def read_register(folder: Path) -> Site:
    """Read it. Raises ProvisionError."""
    path = folder / FILE
    try:
        return Site.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        msg = f"{folder}: no site is there ({FILE} is missing); make one with `provision site`"
        raise ProvisionError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise ProvisionError(msg) from error
    except ValidationError as error:
        msg = f"{path}: damaged; put its backup back"
        raise ProvisionError(msg) from error


def write_register(folder: Path, site: Site) -> None:
    """Write it, whole or not at all. Raises OSError."""
    write_atomically(folder / FILE, site.model_dump_json(indent=2).encode(), 0o600)
