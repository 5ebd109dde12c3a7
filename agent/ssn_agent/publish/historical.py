"""Which verdicts have waited too long to be acted on, and how they are marked."""

import time
from collections import deque

HISTORICAL_AFTER_S = 1.0
"""What a verdict may wait for the ledger, or for the broker, and still be news."""

_END = ',"historical":{}}}'
_NEWS, _HISTORICAL = _END.format("false"), _END.format("true")


class Waits:
    """How long messages have waited since they were committed, by their ids.

    By the monotonic clock, so a station's wrong time marks nothing. What a process before this one
    committed has waited.
    """

    def __init__(self) -> None:
        """Take all messages for historical, until `begin` says which are there already."""
        self._waited: int | None = None
        self._commits: deque[tuple[float, int]] = deque()

    @property
    def has_begun(self) -> bool:
        """Say whether it is known which messages are there already."""
        return self._waited is not None

    def begin(self, newest: int) -> None:
        """Note the last message that is there already."""
        self._waited = newest

    def committed(self, newest: int) -> None:
        """Note that the messages up to this one are committed, as of now."""
        self._forget()
        self._commits.append((time.monotonic(), newest))

    def too_long(self, message_id: int) -> bool:
        """Say whether a message has waited too long to be news."""
        self._forget()
        return self._waited is None or message_id <= self._waited

    def _forget(self) -> None:
        """Of commits that are long ago the newest message is enough to know."""
        until = time.monotonic() - HISTORICAL_AFTER_S
        while self._commits and self._commits[0][0] < until:
            self._waited = self._commits.popleft()[1]


def as_historical(verdict: str) -> str:
    """Return a verdict's JSON marked as historical, which is its last field.

    Without parsing it: a backlog of thousands a second is sent. One that was committed by a version
    without that field gets it.
    """
    if verdict.endswith(_HISTORICAL):
        return verdict
    return verdict.removesuffix(_NEWS).removesuffix("}") + _HISTORICAL
