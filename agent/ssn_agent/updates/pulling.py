"""Looking at the channel: at the start, by schedule, and when somebody announces a bundle."""

import threading
import time
from pathlib import Path

from ssn_agent.bundles.channel import Look, look
from ssn_agent.bundles.in_use import bundles_in_use, channel_of
from ssn_agent.errors import AgentError
from ssn_agent.settings import Settings
from ssn_agent.updates.state import Stored

RETRY_S = 60.0
"""After a pull that failed, however often the channel is announced."""
PAUSE_S = 10.0
"""After one that did not."""


class Pulling:
    """The pulls of the followed names, one after another, in a thread."""

    def __init__(self, settings: Settings, announced: Path) -> None:
        """Take the settings; the first pull is due at once."""
        self._settings = settings
        self._announced = announced
        self._seen = _changed_ns(announced)
        self._due_at = 0.0
        self._earliest_at = 0.0
        self._thread: threading.Thread | None = None
        self._look: Look | None = None
        self.problem: str | None = None
        """Why the last pull did not bring everything."""

    def turn(self) -> dict[str, Stored] | None:
        """Begin a pull where one is due; return what the channel names when one is over."""
        if self._thread is not None:
            return None if self._thread.is_alive() else self._take()
        now = time.monotonic()
        changed = _changed_ns(self._announced)
        if (now >= self._due_at or changed != self._seen) and now >= self._earliest_at:
            self._seen = changed
            # A daemon: the end of the process waits for no server.
            self._thread = threading.Thread(target=self._run, name="pull", daemon=True)
            self._thread.start()
        return None

    def _run(self) -> None:
        """In the thread. Whatever fails is the problem."""
        settings = self._settings
        try:
            in_use = bundles_in_use(settings)
            channel = channel_of(settings)
            self._look = look(channel, settings.bundle_dir, settings.channel_dir, in_use)
        except AgentError as error:
            self._look = Look([], [str(error)])

    def _take(self) -> dict[str, Stored]:
        self._thread = None
        found = self._look or Look([], ["the pull died; see the log"])
        self._look = None
        problem = self.problem = "\n".join(found.problems) or None
        now = time.monotonic()
        self._earliest_at = now + (PAUSE_S if problem is None else RETRY_S)
        self._due_at = max(now + channel_of(self._settings).poll_s, self._earliest_at)
        return {
            one.name: Stored(name=one.name, version=one.version, digest=one.digest, path=one.path)
            for one in found.pulled
        }


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
