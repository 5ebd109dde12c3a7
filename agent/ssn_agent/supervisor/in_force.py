"""The settings in force: handed to every process as a file, and read again when somebody asks."""

import pwd
from collections.abc import Callable
from pathlib import Path

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import SettingsError
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_agent.supervisor.reload import reload
from ssn_contract.messages import SettingsStatus


class SettingsInForce:
    """What the processes go by, and what has become of changes to the file."""

    def __init__(self, settings: Settings, again: Callable[[], Settings], path: Path) -> None:
        """Begin with `settings`; `again` resolves them anew, `path` is the processes' file."""
        self.settings = settings
        self.changed_by = "start"
        self._again = again
        self._path = path
        self._wants_restart: tuple[str, ...] = ()
        self._problem: str | None = None

    def write(self) -> None:
        """Hand them to the processes, secrets and all: for our user alone. Raises OSError."""
        write_atomically(self._path, self.settings.model_dump_json().encode(), 0o600)

    def read_again(self, uid: int) -> bool:
        """Take over what may change at run time; say whether anything did.

        Settings that do not hold together, or cannot be handed on, change nothing.
        """
        who = f"SIGHUP from {_user(uid)}"
        before = self.settings
        try:
            found = reload(before, self._again())
            self.settings = found.settings
            if found.changed:
                self.write()
        except (SettingsError, OSError) as error:
            self.settings = before
            self._problem = f"not taken over: {error}"
            logger().error("settings not taken over; nothing changes", who=who, problem=str(error))
            return False
        self._problem = None
        self._wants_restart = found.wants_restart
        logger().info(
            "settings read again",
            who=who,
            changed=found.changed,
            wants_restart=found.wants_restart,
            digest=self.settings.digest,
        )
        if found.changed:
            self.changed_by = who
        return bool(found.changed)

    def status(self) -> SettingsStatus:
        """Return what `status` says of them."""
        return SettingsStatus(
            digest=self.settings.digest,
            wants_restart=[key[:200] for key in self._wants_restart],
            problem=None if self._problem is None else self._problem[:200],
        )

    def alarms(self) -> list[str]:
        """Return what people should know of them."""
        return [] if self._problem is None else [f"settings: {self._problem}"]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
