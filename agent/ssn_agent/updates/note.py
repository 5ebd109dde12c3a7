"""What people should know of updates: a file in the runtime directory, for the supervisor."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.log import logger

MAX_WORDS = 190
"""Characters of an alarm: `status` has room for so many."""
_ALARMS = TypeAdapter(list[str])


class Alarms:
    """What there is at present, by what it is about."""

    def __init__(self, path: Path) -> None:
        """Write them into this file, as they change."""
        self._path = path
        self._now: dict[str, str] = {}
        self._told: list[str] | None = None

    def set(self, about: str, words: str | None) -> None:
        """Have something among them, and in the log once; None: it is well."""
        if words is None:
            self._now.pop(about, None)
        elif self._now.get(about) != words:
            self._now[about] = words
            logger().error("alarm", about=about, words=words)

    def tell(self) -> None:
        """Write them where they have changed; a full folder costs them alone."""
        alarms = [words[:MAX_WORDS] for words in self._now.values()]
        if alarms == self._told:
            return
        try:  # the next start tells them again: no disk is waited for
            write_atomically(self._path, _ALARMS.dump_json(alarms), synced=False)
            self._told = alarms
        except OSError as error:
            logger().error("alarms are not told", file=str(self._path), problem=error.strerror)


def read_alarms(path: Path) -> list[str]:
    """Return them; none where there is no such note."""
    try:
        return _ALARMS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return []
