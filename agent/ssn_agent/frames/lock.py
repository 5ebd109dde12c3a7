"""The runtime directory's lock: who holds it is the only agent there, or keeps one from starting.

It goes with the process that holds it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ssn_agent.errors import UsageError
from ssn_agent.frames.runtime import RuntimeFiles

LOCK_S = 0.2
"""Others hold it for a moment: `ssn-agent status` looks whether anybody does."""
TICK_S = 0.05


def take_runtime(files: RuntimeFiles) -> int:
    """Make the runtime directory and lock it; return the lock's file. Raises UsageError."""
    lock = _open(files)
    ends_at = time.monotonic() + LOCK_S
    while not _locked(lock):
        if time.monotonic() >= ends_at:
            os.close(lock)
            msg = f"{files.root}: an agent runs here already; stop it, or set another runtime_dir"
            raise UsageError(msg)
        time.sleep(TICK_S)
    return lock


@contextmanager
def without_agent(files: RuntimeFiles) -> Iterator[bool]:
    """Say whether no agent runs here, and keep one from starting meanwhile. Raises UsageError."""
    lock = _open(files)
    try:
        yield _locked(lock)
    finally:
        os.close(lock)


def _open(files: RuntimeFiles) -> int:
    try:
        files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"{files.root}: cannot be used as runtime_dir ({error.strerror}); set another"
        raise UsageError(msg) from error


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
