"""Image files by the folders that hold them: how much there is, and away with the oldest."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAUSE_EVERY = 50
PAUSE_S = 0.05
"""1000 files a second: the disk has more to do than to forget files."""


@dataclass(frozen=True)
class _Folder:
    changed_ns: int
    image_bytes: int
    oldest_ns: int


class ImageFolders:
    """The files in CAMERA/EPOCH/FOLDER below a root; used by one thread.

    A folder is looked into only when it has changed, so a look costs little, however many there
    are. Ages are those of the files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
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

    def delete(self, before_ns: int, excess_bytes: int) -> tuple[int, int]:
        """Delete files from before this UTC time, then the oldest until `excess_bytes` are freed.

        The folder with the oldest file comes first, and in it the oldest file. Return how many
        files and bytes went. Raises OSError.
        """
        files = freed = 0
        for path, folder in sorted(self._known.items(), key=lambda item: item[1].oldest_ns):
            if folder.oldest_ns >= before_ns and freed >= excess_bytes:
                break
            for oldest_ns, size, file in sorted(_files(path)):
                if oldest_ns >= before_ns and freed >= excess_bytes:
                    break
                Path(file).unlink(missing_ok=True)
                files, freed = files + 1, freed + size
                if files % PAUSE_EVERY == 0:
                    time.sleep(PAUSE_S)
            self._remove_empty(path)
        return files, freed

    def _folders(self) -> Iterator["os.DirEntry[str]"]:
        for camera in _subfolders(self._root):
            for epoch in _subfolders(camera):
                yield from _subfolders(epoch)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it where nothing is left in them."""
        with suppress(OSError):  # not empty, or its writer was quicker
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


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


def _summed(folder: Path, changed_ns: int) -> _Folder:
    files = [(oldest_ns, size) for oldest_ns, size, _ in _files(folder)]
    oldest_ns = min((oldest for oldest, _ in files), default=changed_ns)
    return _Folder(changed_ns, sum(size for _, size in files), oldest_ns)
