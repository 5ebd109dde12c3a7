"""A shadow under way, as the updates process sees it: started, listened to, ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from ssn_agent.errors import UpdateError
from ssn_agent.supervisor.child import own_memory_bytes
from ssn_agent.updates.state import Stored
from ssn_agent.updates.told import Line

SILENT_S = 300.0
"""Without a line it hangs: it tells every few seconds, but for a large graph that is loaded."""
MAX_PENDING_BYTES = 2**20


class ShadowProcess:
    """One bundle's shadow."""

    def __init__(
        self,
        settings_file: Path,
        follows: str,
        candidate: Stored,
        in_force: Stored | None,
        memory_mib: int,
    ) -> None:
        """Start it. Raises UpdateError."""
        before = "" if in_force is None else str(in_force.path)
        arguments = [str(settings_file), follows, str(candidate.path), candidate.digest, before]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ssn_agent.updates.shadow", *arguments, str(os.getpid())],
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the supervisor's to act on
            )
        except OSError as error:
            msg = f"the shadow of {candidate.path} cannot be started ({error.strerror})"
            raise UpdateError(msg) from error
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
        self._memory_mib = memory_mib
        self._silent_at = time.monotonic() + SILENT_S
        self._pending = b""
        self.pid = self._process.pid

    def lines(self) -> list[Line]:
        """Return what it has told since. What is no line of ours ends it."""
        data = self._process.stdout.read() if self._process.stdout is not None else None
        *whole, self._pending = (self._pending + (data or b"")).split(b"\n")
        if whole:
            self._silent_at = time.monotonic() + SILENT_S
        try:
            return [Line.model_validate_json(line) for line in whole]
        except ValidationError:
            self._process.kill()
            return []

    def end(self) -> tuple[str, bool] | None:
        """Say how it came to its end, and whether another try may go otherwise; None: it runs.

        What hangs or takes too much memory is killed, and would do so again.
        """
        code = self._process.poll()
        if code is not None:
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
            return f"its shadow died with {died}", True
        problem = None
        if own_memory_bytes(self.pid) > self._memory_mib * 2**20:
            problem = f"its shadow took more than {self._memory_mib} MiB (memory.inference_mib)"
        elif time.monotonic() >= self._silent_at or len(self._pending) > MAX_PENDING_BYTES:
            problem = f"its shadow made no progress for {SILENT_S:.0f} s"
        if problem is None:
            return None
        self._process.kill()
        return problem, False

    def close(self) -> None:
        """Have it gone; what it started goes with it."""
        self._process.kill()
        self._process.communicate()
