"""Messages that the broker refuses, and what waits for them.

A refusal is the broker's settings, which people mend: the message is kept and tried again, alone,
and what follows it in its lane waits. A lane is what keeps its order: the verdicts of a camera. Its
heatmaps are a lane below that one: they wait where its verdicts do, and hold up nothing but
themselves.

Some brokers refuse by ending the connection. A message at which several have ended in a row is
taken for refused, so that the others get through.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ssn_agent.log import logger

PAUSE_S = 5.0
PAUSE_MAX_S = 60.0
"""Each attempt doubles the pause up to this: it may cost the connection, and so all cameras."""
SUSPECTED_AFTER = 3
"""So many connections in a row end with the same message as the oldest that is not answered."""


class Sent(Protocol):
    """A message, as far as its order matters."""

    @property
    def id(self) -> int:
        """Rises from message to message."""
        ...

    @property
    def topic(self) -> str:
        """Where to."""
        ...


M = TypeVar("M", bound=Sent)


@dataclass
class _Held(Generic[M]):
    """A lane, by its oldest message that was refused."""

    message: M
    reason: str
    pause_s: float
    retry_at: float = 0.0

    def put_off(self) -> None:
        self.retry_at = time.monotonic() + self.pause_s


class Refusals(Generic[M]):
    """Which lanes are held, and when their first messages are due again."""

    def __init__(self) -> None:
        self._held: dict[str, _Held[M]] = {}
        self._suspect = (0, 0)
        """The message at which the last connection ended, and how many in a row did."""

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def problem(self) -> str | None:
        """Return what is refused and why; of several, the one that was the first."""
        for held in self._held.values():
            return f"the broker refuses {held.message.topic}: {held.reason}"
        return None

    def refused(self, message: M, reason: str) -> None:
        """Hold a message's lane. What of it comes later is to be read again when it is released."""
        held = self._held.get(_lane(message))
        if held is None or message.id < held.message.id:
            logger().error("broker refuses", topic=message.topic, problem=reason)
            held = self._held[_lane(message)] = _Held(message, reason, PAUSE_S)
        if message.id == held.message.id:
            held.put_off()

    def connection_ended(self, under_way: Iterable[M], reason: str) -> None:
        """Take a message for refused where one connection after another ends at it."""
        oldest = min(under_way, key=lambda message: message.id, default=None)
        if oldest is None:
            return
        suspect, times = self._suspect
        self._suspect = oldest.id, times + 1 if oldest.id == suspect else 1
        if self._suspect[1] >= SUSPECTED_AFTER:
            self.refused(oldest, f"connections end at it ({reason})")

    def due(self, under_way: Iterable[M]) -> list[M]:
        """Return messages that are to be tried again now, oldest first."""
        now, sent = time.monotonic(), {message.id for message in under_way}
        found = [h for h in self._held.values() if now >= h.retry_at and h.message.id not in sent]
        return [held.message for held in sorted(found, key=lambda held: held.message.id)]

    def tried(self, message: M) -> None:
        """Note that a message is being tried again."""
        held = self._held[_lane(message)]
        held.put_off()
        held.pause_s = min(2 * held.pause_s, PAUSE_MAX_S)

    def released(self, message: M) -> bool:
        """Note that a message waits no more; say whether its lane was held for it."""
        held = self._held.get(_lane(message))
        if held is None or held.message.id != message.id:
            return False
        del self._held[_lane(message)]
        return True

    def hold(self, message: M) -> bool:
        """Say whether a message must wait for one that was refused."""
        if not self._held:
            return False
        lane = _lane(message)
        return lane in self._held or lane.rpartition("/")[0] in self._held


def _lane(message: Sent) -> str:
    return message.topic.rpartition("/")[0]
