"""A process's heartbeat: a mapped record in which it says by when it writes the next one.

A beat is a promise. Before a call that may take long, the process promises as much time as that
call may need; between such calls, little. So a process that hangs is noticed soon, and one that
loads a model is left alone. Little-endian:

        0  due   8   CLOCK_MONOTONIC, nanoseconds
        8  crc   4   CRC-32 of the bytes before: half a write does not count
"""

import mmap
import os
import struct
import time
from pathlib import Path

from ssn_agent.errors import JournalError
from ssn_agent.frames import layout

BEAT_S = 5.0
"""Of a main loop, whose turns take far less than a second: long enough for a machine that has too
much to do, short enough that a part in front of a hung process is the line's only late one."""
DISK_S = 15.0
"""For what reads or writes the disk: memory cards stall for seconds when they tidy up."""
_DUE = struct.Struct("<Q")


class Heartbeat:
    """The side that lives. Written by the process's main loop alone: a thread would beat for it."""

    def __init__(self, path: Path) -> None:
        """Make the file where it is not there, and map it. Raises JournalError."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(handle, mmap.PAGESIZE)
                self._map = mmap.mmap(handle, mmap.PAGESIZE)
            finally:
                os.close(handle)
        except OSError as error:
            msg = f"{path}: the heartbeat cannot be mapped ({error.strerror}); check the folder"
            raise JournalError(msg) from error

    def beat(self, within_s: float = BEAT_S) -> None:
        """Say that all is well, and that the next beat comes within so many seconds."""
        region = layout.sealed(_DUE.pack(time.monotonic_ns() + int(within_s * 1e9)))
        self._map[: len(region)] = region


def beat_due_at(path: Path) -> float | None:
    """Return by when the next beat comes, in seconds of the monotonic clock.

    None where there was none yet, or where it is just being written.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_DUE.size + 4)
    except OSError:
        return None
    if len(data) < _DUE.size + 4:
        return None
    body = layout.unsealed(memoryview(data), 0, _DUE.size)
    # A file of zeros was made and never written: the CRC-32 of zeros is not zero.
    return None if body is None else float(_DUE.unpack(body)[0]) / 1e9
