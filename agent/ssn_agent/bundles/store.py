"""The folder of bundles that came from the channel: each file is whole and verified, or absent."""

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ssn_agent.atomic import atomic_path
from ssn_agent.bundles.rules import superfluous
from ssn_agent.errors import ChannelError


class Store:
    """The folder, while one pull has it to itself: see `opened`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator["Store"]:
        """Lock the folder, and remove what a killed pull left half written.

        Raises ChannelError where another pull has it; OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"{folder}: another pull is under way; wait for its end, and try again"
                raise ChannelError(msg) from error
            for path in folder.glob(".*.ssn.*"):
                path.unlink()
            yield cls(folder)
        finally:
            os.close(lock)

    def path(self, name: str, version: str) -> Path:
        """Return where a bundle has its place."""
        return self.folder / f"{name}-{version}.ssn"

    def of(self, name: str) -> set[Path]:
        """Return the bundles of a name; of one that begins like it, perhaps, too."""
        return set(self.folder.glob(f"{name}-*.ssn"))

    def take(self, path: Path, fill: Callable[[Path], None]) -> None:
        """Have `fill` write and verify a file, which then is at its place, on the disk.

        Raises what `fill` raises, and OSError; nothing is there then.
        """
        with atomic_path(path, 0o644) as unverified:
            fill(unverified)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def tidy(self, needed: Collection[Path], keep: int) -> None:
        """Delete what is needed no more, whatever way its path is written. Raises OSError."""
        stored = [(path, path.stat().st_mtime) for path in self.folder.glob("*.ssn")]
        places = {path.resolve() for path in needed}
        stays = {path for path, _ in stored if path.resolve() in places}
        for path in superfluous(stored, stays, keep):
            path.unlink()
