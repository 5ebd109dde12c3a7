"""What stands in front of a driver in tests: a real device's software, in a process of its own."""

from typing import Any, Protocol


class Counterpart(Protocol):
    """A camera that a test starts, kills and freezes. Closed by its maker at the end."""

    source: dict[str, Any]
    """The settings' `source` of the camera that reaches it."""

    def start(self) -> None:
        """Start it, after `kill` again; return when it answers."""
        ...

    def kill(self) -> None:
        """End it at once, as a cable that is pulled does: SIGKILL."""
        ...

    def freeze(self) -> None:
        """Stop it where it stands: SIGSTOP."""
        ...

    def thaw(self) -> None:
        """Let it go on: SIGCONT."""
        ...
