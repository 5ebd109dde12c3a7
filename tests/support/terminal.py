"""A command in a pseudo-terminal, as a person sees it and types into it."""

import errno
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from support.children import environment

TURN_S = 30.0
"""For an answer to come; the machine may have much else to do."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """The person's side."""

    pid: int
    handle: int
    seen: str = ""
    """All that has been shown so far, without colours."""
    _read_to: int = 0

    def answer(self, question: str, answer: str) -> None:
        """Wait for a question that is not answered yet, and type.

        Its blank comes last, when what is typed is no longer shown where it is a secret.
        """
        self.wait_for(question)
        self._wait(lambda: self.seen.endswith(": "), question)
        self._read_to = len(self.seen)
        os.write(self.handle, f"{answer}\n".encode())

    def wait_for(self, text: str) -> None:
        """Wait until something is shown that was not waited for before."""
        self._wait(lambda: text in self.seen[self._read_to :], text)
        self._read_to = self.seen.index(text, self._read_to) + len(text)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        ends_at = time.monotonic() + TURN_S
        while not condition():
            if time.monotonic() >= ends_at or not self._read():
                pytest.fail(f"{what!r} does not come; there is:\n{self.seen}")

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        ends_at = time.monotonic() + TURN_S
        while self._read():
            if time.monotonic() >= ends_at:
                pytest.fail(f"it does not end; there is:\n{self.seen}")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        """Take what is shown, for a while; say whether there may be more."""
        if not select.select([self.handle], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.handle, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # how Linux says that the other side is closed
                raise
            return False
        self.seen = _COLOURS.sub("", self.seen + data.decode(errors="replace")).replace("\r", "")
        return bool(data)


@contextmanager
def terminal(*arguments: object, columns: int = 200) -> Iterator[Terminal]:
    """Run `ssn-agent` with these arguments at a terminal of its own; it is killed at the end."""
    command = [sys.executable, "-m", "ssn_agent.cli", *map(str, arguments)]
    variables = environment() | {"TERM": "xterm", "COLUMNS": str(columns)}
    pid, handle = pty.fork()
    if pid == 0:
        os.execve(sys.executable, command, variables)  # noqa: S606 -- ours; no shell
    try:
        yield Terminal(pid, handle)
    finally:
        os.close(handle)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):  # it has ended, and was waited for
            pass
