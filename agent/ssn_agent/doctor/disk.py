"""Room on the disk that ledger and pictures lie on."""

import os
from collections.abc import Iterator
from pathlib import Path

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, warning
from ssn_agent.settings import Settings

GIB = 2**30
MIN_INODES = 0.02
MIN_BYTES = 64 * 2**20
"""Less than this is full, however small the disk: SQLite's log alone takes some of it."""


def disk(subject: Subject) -> Iterator[Finding]:
    """Space, inodes, and whether it can be written to at all."""
    settings = subject.settings
    folder = _there(settings.data_dir)
    found = os.statvfs(folder)
    problem = unusable(settings)
    if problem is not None:
        yield problem
        return
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    share = 100 * free / size
    room = f"{folder}: {free / GIB:.1f} of {size / GIB:.1f} GiB free ({share:.0f} %)"
    if share < settings.retention.min_free_percent:
        least = f"less than retention.min_free_percent ({settings.retention.min_free_percent:g})"
        do = "delete what is not the agent's; pictures go by themselves"
        yield fault(f"{room}, {least}", do)
    elif found.f_files and found.f_favail / found.f_files < MIN_INODES:
        yield fault(f"{folder}: {found.f_favail} inodes free", "delete what is many small files")
    else:
        yield ok(room)
    yield from _budget(settings, size)


def unusable(settings: Settings) -> Finding | None:
    """Return why nothing can be written there; None where it can."""
    folder = _there(settings.data_dir)
    found = os.statvfs(folder)
    if is_read_only(folder):
        do = "dmesg says why; stop the agent, unmount, fsck, mount, start (docs/operations.md)"
        return fault(f"{folder}: the file system is read-only", do)
    if found.f_bavail * found.f_frsize < min(MIN_BYTES, found.f_blocks * found.f_frsize // 50):
        do = "make room: du -xh --max-depth=1 /var | sort -h (docs/operations.md, A full disk)"
        return fault(f"{folder}: the disk is full", do)
    return None


def is_read_only(folder: Path) -> bool:
    """Say whether its file system is."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _budget(settings: Settings, size: int) -> Iterator[Finding]:
    """Compare what may be kept with the disk: all of `[retention]` that is a size."""
    kept = settings.retention.model_dump()
    wanted = sum(value for key, value in kept.items() if key.endswith("_gib"))
    room = size / GIB * (1 - settings.retention.min_free_percent / 100)
    if wanted > room:
        what = f"retention may keep {wanted:.1f} GiB, and the disk has room for {room:.1f}"
        yield warning(what, "lower retention.*_gib to what the disk holds beside the system")


def _there(folder: Path) -> Path:
    """Return the folder, or where it will be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())
