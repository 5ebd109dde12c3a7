"""Image files by the folders that hold them: how much there is, and away with the oldest.

They are heatmaps, or pictures of which some are worth more than others: people have labelled them.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

PAUSE_EVERY = 50
PAUSE_S = 0.05
"""1000 files a second: the disk has more to do than to forget files."""


@dataclass(frozen=True)
class _Folder:
    changed_ns: int
    image_bytes: int
    oldest_ns: int
    """Of those that may go."""


_NEVER = 2**63 - 1
NONE_IS_WORTH_MORE: Callable[[], frozenset[str]] = frozenset


class ImageFolders:
    """The files in CAMERA/EPOCH/FOLDER below a root; used by one thread.

    A folder is looked into only when it has changed, so a look costs little, however many there
    are. Ages are those of the files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, _Folder] = {}

    def look(self) -> int:
        """Take up what has changed; return the bytes of all images. Raises OSError."""
        found = {}
        for entry in self._folders():
            path = Path(entry.path)
            with suppress(FileNotFoundError):
                changed_ns = entry.stat().st_mtime_ns
                known = self._known.get(path)
                if known is None or known.changed_ns != changed_ns:
                    known = _summed(path, changed_ns)
                found[path] = known
        self._known = found
        return sum(folder.image_bytes for folder in found.values())

    def delete(
        self,
        before_ns: int,
        excess_bytes: int,
        worth_more: Callable[[], frozenset[str]] = NONE_IS_WORTH_MORE,
    ) -> tuple[int, int]:
        """Delete files from before this UTC time, then the oldest until `excess_bytes` are freed.

        The folder with the oldest file comes first, and in it the oldest file. Those that are
        `worth_more`, which is asked once and only where anything has to go, go after all others,
        and never by age. Return how many files and bytes went. Raises OSError.
        """
        done = _Deleted()
        stays: frozenset[str] | None = None
        for path, folder in sorted(self._known.items(), key=lambda item: item[1].oldest_ns):
            if folder.oldest_ns >= before_ns and done.freed >= excess_bytes:
                break
            stays = worth_more() if stays is None else stays
            left_ns = _NEVER
            for at_ns, size, file in sorted(f for f in _files(path) if f[2] not in stays):
                if at_ns >= before_ns and done.freed >= excess_bytes:
                    left_ns = at_ns
                    break
                done.delete(file, size)
            # Or a folder of old ones that stay would be looked into again and again.
            self._known[path] = replace(folder, oldest_ns=left_ns)
            self._remove_empty(path)
        for _, size, file in sorted(_found(stays or ())) if done.freed < excess_bytes else ():
            if done.freed >= excess_bytes:
                break
            done.delete(file, size)
            self._remove_empty(Path(file).parent)
        return done.files, done.freed

    def delete_newest(self, excess_bytes: int) -> tuple[int, int]:
        """Delete the newest files until so much is freed; return as `delete`. Raises OSError."""
        done = _Deleted()
        changed = sorted((folder.changed_ns, path) for path, folder in self._known.items())
        for _, path in reversed(changed):
            for _, size, file in sorted(_files(path), reverse=True):
                if done.freed >= excess_bytes:
                    return done.files, done.freed
                done.delete(file, size)
            self._remove_empty(path)
        return done.files, done.freed

    def _folders(self) -> Iterator["os.DirEntry[str]"]:
        for camera in _subfolders(self.root):
            for epoch in _subfolders(camera):
                yield from _subfolders(epoch)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it where nothing is left in them."""
        with suppress(OSError):  # not empty, or its writer was quicker
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent


class _Deleted:
    """What has gone so far."""

    def __init__(self) -> None:
        self.files = self.freed = 0

    def delete(self, file: str, size: int) -> None:
        Path(file).unlink(missing_ok=True)
        self.files, self.freed = self.files + 1, self.freed + size
        if self.files % PAUSE_EVERY == 0:
            time.sleep(PAUSE_S)


def _subfolders(folder: "Path | os.DirEntry[str]") -> Iterator["os.DirEntry[str]"]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield each file's time, in nanoseconds of UTC, its bytes and its path."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    yield stat.st_mtime_ns, stat.st_size, entry.path


def _found(files: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the same of files by their paths, as far as they are there."""
    for file in files:
        with suppress(FileNotFoundError):
            stat = Path(file).lstat()
            yield stat.st_mtime_ns, stat.st_size, file


def _summed(folder: Path, changed_ns: int) -> _Folder:
    files = [(oldest_ns, size) for oldest_ns, size, _ in _files(folder)]
    oldest_ns = min((oldest for oldest, _ in files), default=changed_ns)
    return _Folder(changed_ns, sum(size for _, size in files), oldest_ns)
