"""A folder that is watched for images, as line cameras drop them by FTP or on a network drive.

The folder is looked at again and again: a file server tells nobody what comes (inotify sees only
what this machine writes). The rules:

1. An image is finished when it has not changed for `SETTLE_S` and can be read. One that cannot is
   tried again when it has changed, and is a part without a picture after `GIVE_UP_S` of rest.
2. Images are parts in the order in which they were finished (the time of their last change, which
   a file system sets itself, also when a file is renamed into place).
3. One path, time of writing and size is one part, and so is one file that was moved. A file that is
   written anew is another part.
4. What was there when the folder was first opened is old, but for what came after the newest image
   that was counted before: the journal has those. So nothing is lost over a restart of the agent,
   and nothing judged twice. Across a restart of the machine, which the journal does not survive,
   what came meanwhile is old, too.
"""

import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssn_agent.capture.camera import Description, Frame, FrameIds, HostTime
from ssn_agent.capture.drivers.files import LIST_S, READ_S, part_name
from ssn_agent.capture.settings import FolderSource
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixels import IMAGE_SUFFIXES, read_image
from ssn_agent.log import logger

LOOK_S = 0.1
"""Between two looks."""
LOOKS_SHARE = 0.1
"""Of a processor, at most: a folder of many files is looked at less often. A drive that is slow is
asked for half of the time, at most."""
SETTLE_S = 0.2
GIVE_UP_S = 10.0
SLACK_NS = 30 * 10**9
"""By how much images may be counted out of their order: `GIVE_UP_S`, and clocks that are coarse."""
REMEMBERED = 20_000
"""Parts, or as many as the folder holds: also those that are gone, for a drive may come back."""

_TRIGGER_ID = re.compile(r"file (-?[0-9]+) ([0-9]+) (-?[0-9]+)")
"""See `Stamp.trigger_id`."""


class Stamp(NamedTuple):
    """What tells a file from what it was before, and from others."""

    file: int
    """The file system's number of it; not every network drive keeps to one."""
    written_ns: int
    size: int
    changed_ns: int
    """Also when it was renamed: the order of coming, by the clock of the file's machine."""

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """Take what a file system says of a file."""
        return cls(found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns)

    def keys(self, name: str) -> tuple[tuple[str, int, int], tuple[int, int, int]]:
        """Return what it is known by: its name, or its number, with its content."""
        return (name, self.written_ns, self.size), (self.file, self.written_ns, self.size)

    def trigger_id(self) -> str:
        """Return what the journal keeps of it, beside its name."""
        return f"file {self.written_ns} {self.size} {self.changed_ns}"


@dataclass
class _Waiting:
    stamp: Stamp
    seen: HostTime
    """First."""
    rests_since_s: float
    is_broken: bool = False

    def is_due(self, now_s: float) -> bool:
        return now_s - self.rests_since_s >= (GIVE_UP_S if self.is_broken else SETTLE_S)


class WatchedFolder:
    """Each image that comes is a part; its path is the part id. Nothing is deleted or moved."""

    open_limit_s = LIST_S
    frame_limit_s = LIST_S + READ_S
    silence_limit_s: float | None = None
    frame_ids: FrameIds | None = None
    waits = True

    def __init__(self, source: FolderSource, counted: Iterable[tuple[str, str]] = ()) -> None:
        """`counted`: part ids and trigger ids of what was counted before."""
        self._root = source.path
        self._known: dict[tuple[str | int, int, int], None] = {}
        changes_ns = []
        for name, trigger_id in counted:
            # Others than ours are there where the source was another one before.
            if ours := _TRIGGER_ID.fullmatch(trigger_id):
                written, size, changed = map(int, ours.groups())
                self._known[name, written, size] = None
                changes_ns.append(changed)
        self._old_ns = max(min(changes_ns), max(changes_ns) - SLACK_NS) if changes_ns else None
        self._found: dict[str, Stamp] = {}
        """By the last look."""
        self._waiting: dict[str, _Waiting] = {}
        self._due: deque[str] = deque()
        self._last_look_ns: int | None = None
        self._next_look_s = 0.0

    def open(self) -> None:
        """Look at the folder, the first time for what is old. Raises CameraError."""
        if not self._root.is_dir():
            msg = f"{self._root}: no such folder; check the camera's source.path, and the drive"
            raise CameraError(msg)
        is_first = self._last_look_ns is None
        self._look()
        if is_first:
            old = len(self._found) - len(self._waiting)
            logger().info("watching", folder=str(self._root), old=old, new=len(self._waiting))

    def arm(self) -> None:
        """An image waits until it is judged, however often the folder is opened."""

    def trigger(self) -> None:
        """Nothing to do: the settings leave no trigger to a watched folder."""

    def describe(self) -> Description:
        """Say where the images are."""
        return Description(model=str(self._root), settings={"waiting": str(len(self._waiting))})

    def close(self) -> None:
        """Nothing to release; what was taken stays known."""

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next finished image, None where none is finished within `wait_s`.

        Its pixels are None where it cannot be read. Raises CameraError where the folder cannot.
        """
        ends_s = time.monotonic() + wait_s
        while True:
            while self._due:
                frame = self._take(self._due.popleft())
                if frame is not None:
                    return frame
            now_s = time.monotonic()
            if now_s >= self._next_look_s:
                self._look()
            elif now_s >= ends_s:
                return None
            else:
                time.sleep(min(self._next_look_s, ends_s) - now_s)

    def _look(self) -> None:
        now, began_s, began_cpu_s = HostTime.now(), time.monotonic(), time.thread_time()
        found = dict(_files(self._root))
        # What is as it was and does not wait was taken.
        fresh = {p: f for p, f in found.items() if p in self._waiting or self._found.get(p) != f}
        for path, stamp in fresh.items():
            self._heed(path, stamp, now)
        self._forget_vanished(found, began_s)
        while len(self._known) > 2 * max(REMEMBERED, len(found)):
            del self._known[next(iter(self._known))]
        due = [path for path, waiting in self._waiting.items() if waiting.is_due(began_s)]
        self._due = deque(sorted(due, key=lambda p: (self._waiting[p].stamp.changed_ns, p)))
        self._found, self._last_look_ns = found, now.monotonic_ns
        ended_s, cpu_s = time.monotonic(), time.thread_time() - began_cpu_s
        self._next_look_s = ended_s + max(LOOK_S, ended_s - began_s, cpu_s / LOOKS_SHARE)

    def _heed(self, path: str, stamp: Stamp, now: HostTime) -> None:
        """Take note of a file that is new, has changed, or waits."""
        waiting = self._waiting.get(path)
        if waiting is not None and waiting.stamp == stamp:
            return
        name, now_s = self._name(path), now.monotonic_ns / 1e9
        if waiting is not None:
            self._waiting[path] = _Waiting(stamp, waiting.seen, now_s)
        elif self._is_known(name, stamp):
            pass
        elif self._last_look_ns is None and self._is_old(stamp):
            self._remember(name, stamp)
        else:
            self._waiting[path] = _Waiting(stamp, self._came(stamp, now), now_s)

    def _forget_vanished(self, found: dict[str, Stamp], now_s: float) -> None:
        """Forget what is gone and was never a finished image here; `_take` tells of the others."""
        files = {stamp.keys("")[1] for stamp in found.values()} if self._waiting else set()
        for path in self._waiting.keys() - found.keys():
            waiting = self._waiting[path]
            was_moved = waiting.stamp.keys("")[1] in files
            if was_moved or waiting.is_broken or not waiting.is_due(now_s):
                logger().info("an unfinished image is gone", path=path)
                del self._waiting[path]

    def _take(self, path: str) -> Frame | None:
        """Read a finished image; None where it is not finished after all."""
        waiting = self._waiting[path]
        pixels, problem = None, ""
        try:
            pixels = read_image(Path(path))
            if Stamp.of(Path(path).stat()) != waiting.stamp:
                return None  # written anew meanwhile: the next look sees it
        except (ImageError, OSError) as error:
            problem = str(error)
            if not waiting.is_broken and Path(path).exists():
                waiting.is_broken = True
                return None
            logger().warning("image unreadable", problem=problem)
        del self._waiting[path]
        name = self._name(path)
        self._remember(name, waiting.stamp)
        trigger_id = waiting.stamp.trigger_id()
        captured = waiting.seen
        return Frame(pixels, name, captured=captured, problem=problem, trigger_id=trigger_id)

    def _came(self, stamp: Stamp, now: HostTime) -> HostTime:
        """Return when a file came: when it was written, if that is since the last look."""
        written_ago = max(0, now.utc_ns - stamp.written_ns)
        if self._last_look_ns is not None:
            written_ago = min(written_ago, now.monotonic_ns - self._last_look_ns)
        return now.earlier(min(written_ago, now.monotonic_ns))

    def _name(self, path: str) -> str:
        return part_name(Path(path), self._root)

    def _is_known(self, name: str, stamp: Stamp) -> bool:
        return any(key in self._known for key in stamp.keys(name))

    def _is_old(self, stamp: Stamp) -> bool:
        return self._old_ns is None or stamp.changed_ns < self._old_ns

    def _remember(self, name: str, stamp: Stamp) -> None:
        for key in stamp.keys(name):
            self._known[key] = None


def _files(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield the images below a folder. Raises CameraError where a folder cannot be read.

    Hidden ones are none: servers write under such names first. Links to folders are not followed.
    """
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif _is_image(entry.name):
                        yield from _file(entry)
        except OSError as error:
            if folder != str(root) and isinstance(error, FileNotFoundError):
                continue  # removed since it was found
            msg = f"{folder}: cannot be read ({error.strerror}); check the drive and permissions"
            raise CameraError(msg) from error


def _is_image(name: str) -> bool:
    return "." + name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _file(entry: "os.DirEntry[str]") -> Iterator[tuple[str, Stamp]]:
    try:
        found = entry.stat()
    except FileNotFoundError:  # removed since, or a link to nothing
        return
    if stat.S_ISREG(found.st_mode):
        yield entry.path, Stamp.of(found)
