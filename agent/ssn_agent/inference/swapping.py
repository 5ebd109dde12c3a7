"""Which bundle is to judge where one is followed, and the note of which one does.

The updates process decides (`updates.state`), inference loads and swaps (`judges`). Between them:
`models.json`, which says what is wanted, and a note a name in the runtime directory, which says
what judges. The note is written after the swap and before the next frame, and at every start of
inference: where the process died between the two, it is true again before the first frame.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import UpdateError
from ssn_agent.updates.state import ModelsState
from ssn_contract.manifest import Digest


class Swapped(BaseModel):
    """What judges where a name is followed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    digest: Digest | None
    """Of the bundle that judges, where several do, of one that is not wanted; None: none does."""
    problem: str | None
    """Why that is not the one that is wanted, where inference has tried it; None: it is, or it is
    being loaded."""


@dataclass(frozen=True)
class Wanted:
    """A bundle that may judge."""

    path: Path
    digest: str | None = None
    """None: whatever the file holds, as the settings name it."""


def wanted_bundles(bundle: Path | None, follow: str | None, state: ModelsState) -> list[Wanted]:
    """Return what is to judge, and what judges where that cannot, in this order.

    What is in force for the followed name; what was before it; the settings' `bundle`.
    """
    found: list[Wanted] = []
    followed = None if follow is None else state.followed.get(follow)
    if followed is not None and followed.in_force is not None:
        stored = (followed.in_force, followed.before)
        found = [Wanted(one.path, one.digest) for one in stored if one is not None]
    if bundle is not None:
        found.append(Wanted(bundle))
    return list(dict.fromkeys(found))


def read_swapped(path: Path) -> Swapped | None:
    """Return the note at `RuntimeFiles.swapped`; None: there is none yet. Raises UpdateError."""
    try:
        return Swapped.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        msg = f"{path}: cannot be read ({error}); inference writes it anew when it starts"
        raise UpdateError(msg) from error


def write_swapped(path: Path, note: Swapped) -> None:
    """Have it there, whole; the runtime directory does not outlive a power cut. Raises UpdateError.

    Not synced: serving would wait for the disk.
    """
    try:
        write_atomically(path, note.model_dump_json().encode(), synced=False)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); check the folder and its space"
        raise UpdateError(msg) from error
