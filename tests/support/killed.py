"""Has work killed by SIGKILL at each of its steps, one after another.

`python -m support.killed MODULE:FUNCTION START OUT ARGUMENT...` forks a child for each step: it
calls the function with a copy of START and the arguments, and dies where it is about to do
something to files or the network for the n-th time, or half way through copying a file. Copies stay
in OUT, by number; the last one is of the child that came through. Prints the steps as JSON.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from support.children import environment

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink"}


def kill_at_each_step(
    function: Callable[..., Any], start: Path, out: Path, *arguments: str | Path
) -> list[str]:
    """Return what was about to happen at each step."""
    command = [sys.executable, "-m", "support.killed"]
    command += [f"{function.__module__}:{function.__name__}", str(start), str(out)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=environment(),
    )
    steps: list[str] = json.loads(done.stdout)
    return steps


class _Steps:
    """Counts what this process does, and ends it at the one wanted."""

    def __init__(self, last: int, folder: Path, note: Path) -> None:
        self._left = last
        self._folder = str(folder)
        self._note = note
        self._before = ""

    def reached(self, what: str) -> None:
        """Note a step; one call may be told of twice."""
        if what == self._before or self._left == 0:
            return
        self._before = what
        self._left -= 1
        if self._left == 0:
            self._note.write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take what the interpreter tells before it does it."""
        if event in ("socket.connect", "fcntl.flock"):
            self.reached(event)
        elif event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return  # reading changes nothing
        elif event in EVENTS and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if path.startswith(self._folder):
                self.reached(f"{event} {path.removeprefix(self._folder)}")

    def copy(self, source: IO[bytes], target: IO[bytes], length: int = 0) -> None:
        """Copy as `shutil.copyfileobj` does, with a step half way."""
        del length
        data = source.read()
        target.write(data[: len(data) // 2])
        target.flush()
        self.reached("half a copy")
        target.write(data[len(data) // 2 :])


def main() -> None:
    """Run the children."""
    where, start, out, *arguments = sys.argv[1:]
    module, _, name = where.partition(":")
    function = getattr(importlib.import_module(module), name)
    steps: list[str] = []
    while True:
        folder = Path(out) / str(len(steps) + 1)
        shutil.copytree(start, folder, symlinks=True)
        note = Path(out) / "note"
        child = os.fork()
        if child == 0:
            counted = _Steps(len(steps) + 1, folder, note)
            shutil.copyfileobj = counted.copy  # type: ignore[assignment]  # to be counted
            sys.addaudithook(counted.hook)
            function(folder, *arguments)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        steps.append(note.read_text())
    sys.stdout.write(json.dumps(steps))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
