"""What the updates process would decide, written by a test."""

from datetime import datetime, timezone
from pathlib import Path

from ssn_agent.bundles.archive import Bundle
from ssn_agent.updates.state import Followed, ModelsState, Stored, write_state


def stored(path: Path) -> Stored:
    """Return a bundle as the store would list it."""
    ref = Bundle.open(path).ref
    return Stored(name=ref.name, version=ref.version, digest=ref.digest, path=path)


def want(models_file: Path, follow: str, in_force: Stored | None, before: Stored | None) -> None:
    """Decide what judges where a name is followed."""
    now = datetime.now(timezone.utc)
    followed = Followed(since=now, in_force=in_force, before=before)
    write_state(models_file, ModelsState(followed={follow: followed}))
