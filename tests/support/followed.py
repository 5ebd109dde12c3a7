"""What the updates process would decide, written by a test."""

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.loading import LIMIT_S
from ssn_agent.inference.swapping import read_swapped
from ssn_agent.settings import Settings
from ssn_agent.updates.state import Followed, ModelsState, Stored, write_state
from support.waiting import wait_until


def stored(path: Path) -> Stored:
    """Return a bundle as the store would list it."""
    ref = Bundle.open(path).ref
    return Stored(name=ref.name, version=ref.version, digest=ref.digest, path=path)


def want(models_file: Path, follow: str, in_force: Stored | None, before: Stored | None) -> None:
    """Decide what judges where a name is followed."""
    now = datetime.now(timezone.utc)
    followed = Followed(since=now, in_force=in_force, before=before)
    write_state(models_file, ModelsState(followed={follow: followed}))


CHANNEL = {"url": "http://127.0.0.1:1/", "root_file": __file__, "bundles": ["brightness"]}
"""One that nobody asks: what is followed wants one."""


def renewed(bundle: Path, path: Path, version: str) -> Path:
    """Write the same bundle under another version, and return its path."""
    opened = Bundle.open(bundle)
    manifest = opened.manifest.model_dump(mode="json", exclude={"entries"})
    files = {entry.path: opened.read(entry.path) for entry in opened.manifest.entries}
    write_bundle(path, {**manifest, "version": version}, files)
    return path


@dataclass(frozen=True)
class Swap:
    """One that was decided and then noted, in seconds since 1970."""

    digest: str
    wanted_at: float
    noted_at: float


def swap(settings: Settings, follow: str, to: Stored, before: Stored | None) -> Swap:
    """Decide that a bundle judges, and return when inference has noted that it does."""
    note = RuntimeFiles(settings.runtime_dir).swapped(follow)
    wanted_at = time.time()
    want(settings.models_file, follow, to, before)

    def is_noted() -> bool:
        found = read_swapped(note)
        assert found is None or found.problem is None, found
        return found is not None and found.digest == to.digest

    wait_until(is_noted, LIMIT_S, f"{to.path} does not take over")
    return Swap(to.digest, wanted_at, time.time())
