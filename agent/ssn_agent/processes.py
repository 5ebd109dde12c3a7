"""What every process of the agent has in common: its life ends with the supervisor's."""

import ctypes
import faulthandler
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8
"""As glibc's malloc.h names it."""
LEDGER_DAMAGED = 3
"""Exit code by which the ledger process says that it has set a damaged ledger aside."""


class Stop:
    """Asked to stop by SIGTERM (or SIGINT, where `interactive`).

    The handler writes a byte to a pipe and does nothing else: a lock could be held by the code that
    it interrupts.
    """

    def __init__(self, *, interactive: bool = False) -> None:
        self._read_fd, self._write_fd = os.pipe()
        signal.signal(signal.SIGTERM, self._note)
        # Ctrl-C reaches the whole process group; the supervisor alone acts on it, and in order.
        signal.signal(signal.SIGINT, self._note if interactive else signal.SIG_IGN)
        self._asked = False
        # Where `start_process` held it back until there is a handler: now it may come.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _note(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._asked = True
        os.write(self._write_fd, b"\0")

    def __bool__(self) -> bool:
        return self._asked

    def wait(self, timeout_s: float) -> bool:
        """Sleep, waking early when asked to stop; say whether that was so."""
        select.select([self._read_fd], [], [], timeout_s)
        return self._asked


def hold_back_reloads() -> None:
    """Have SIGHUP wait for `reload_asked_by`, here and in what is started from here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def reload_asked_by() -> int | None:
    """Return the number of the user who asked, by SIGHUP, for the settings to be read again.

    None where nobody did. Several requests since the last call are one.
    """
    asked = signal.sigtimedwait({signal.SIGHUP}, 0)
    return None if asked is None else asked.si_uid


def start_process(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start `python -m` with `arguments`, a module that makes a `Stop`.

    A SIGTERM that comes before then is held back, not lost, and does not kill; SIGHUP is held back
    for `reload_asked_by`.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        return subprocess.Popen([sys.executable, "-m", *arguments])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def set_crash_rules() -> None:
    """Have this process and those it starts leave tracebacks, and no core dumps.

    A dump would hold pictures and passwords, and a process that crashes again and again would fill
    the disk with them.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    os.environ["PYTHONFAULTHANDLER"] = "1"  # for what is started from here


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its supervisor dies, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(1)


def share_arenas(count: int) -> None:
    """Have all threads of this process take their memory from so many of glibc's arenas.

    Each thread that comes may open one of its own, up to eight a core, and what one thread left
    free there is of no use to the next. To be called before there are threads. Where the C library
    has no arenas, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, count)
