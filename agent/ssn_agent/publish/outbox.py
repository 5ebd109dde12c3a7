"""Committed messages to the broker: in order, at least once, a bounded number under way.

A message leaves the outbox when the broker has acknowledged it, or when it can never be delivered.
What was under way when this process died is sent again by the next one: consumers tell repeated
verdicts by their key.

A picture is written after the result that promises it, so its file may still be on its way. Such a
message steps aside for those behind it, and is sent when the file is there. A file that does not
come in time was not written, or its writer was killed: the message is noted as undeliverable.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from ssn_agent.log import logger
from ssn_agent.publish.mqtt import Acknowledged, Connected, Disconnected, Event

PACKET_OVERHEAD_BYTES = 16
REFUSAL_PAUSE_S = 5.0
FILE_WAIT_S = 3.0
MAX_AWAITED = 1000
"""Files that are looked for at once; beyond that the first ones are given up early."""


class Message(Protocol):
    """What the outbox sends: text, or the content of a file."""

    @property
    def id(self) -> int:
        """Rises from message to message."""
        ...

    @property
    def topic(self) -> str:
        """Where to."""
        ...

    @property
    def payload(self) -> str | None:
        """The text, or None where it is a file."""
        ...

    @property
    def file(self) -> str | None:
        """The file, or None where it is text."""
        ...


class Link(Protocol):
    """What the outbox needs of a broker's line."""

    def publish(self, topic: str, payload: str | bytes) -> int:
        """Send at QoS 1 and return the packet id."""
        ...


class Store(Protocol):
    """What the outbox needs of the ledger."""

    def undelivered(self, after: int, limit: int) -> Sequence[Message]:
        """Return waiting messages with ids above `after`, oldest first."""
        ...


@dataclass
class Delivery:
    """What became of messages, for the ledger to note."""

    published: dict[int, datetime] = field(default_factory=dict)
    undeliverable: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.published or self.undeliverable)


class Outbox:
    """Sends what the ledger has committed and collects what the broker acknowledged."""

    def __init__(self, link: Link, store: Store, window: int) -> None:
        self._link = link
        self._store = store
        self._window = self._allowed = window
        self._queue: deque[Message] = deque()
        self._under_way: dict[int, Message] = {}
        self._awaited: deque[tuple[float, Message]] = deque()
        self._fetched = 0
        self._more = True
        self._max_packet_bytes: int | None = None
        self._paused_until_s = 0.0
        self._delivery = Delivery()
        self._refused_ids: set[int] = set()
        self.connected = False
        self.problem: str | None = None
        """Why nothing is delivered at present; None while all is well."""

    @property
    def idle(self) -> bool:
        """Nothing waits, is under way, or is still to be noted."""
        waiting = self._queue or self._awaited or self._under_way or self._more or self._delivery
        return not waiting

    def wake(self) -> None:
        """Say that the ledger has committed more."""
        self._more = True

    def take(self, event: Event) -> None:
        """Take up what the broker's line reports."""
        match event:
            case Connected(max_packet_bytes, max_inflight):
                self.connected, self.problem = True, None
                self._max_packet_bytes = max_packet_bytes
                self._allowed = min(self._window, max_inflight or self._window)
                logger().info("broker connected", max_packet_bytes=max_packet_bytes)
            case Disconnected(reason):
                if reason != self.problem:
                    logger().warning("broker not connected", problem=reason)
                self.connected, self.problem = False, reason
            case Acknowledged(mid, refusal):
                message = self._under_way.pop(mid, None)
                if message is None:
                    return
                if refusal is None:
                    self._delivered(message)
                else:
                    self._refused(message, refusal)

    def take_delivery(self) -> Delivery:
        """Return what is to be noted, and forget it."""
        delivery, self._delivery = self._delivery, Delivery()
        return delivery

    def put_back(self, delivery: Delivery) -> None:
        """Remember what the ledger could not note, for the next time."""
        self._delivery.published.update(delivery.published)
        self._delivery.undeliverable.update(delivery.undeliverable)

    def pump(self) -> None:
        """Send as much as the window allows."""
        if not self.connected or time.monotonic() < self._paused_until_s:
            return
        self._look_for_files()
        while len(self._under_way) < self._allowed:
            message = self._next()
            if message is None:
                return
            payload = self._payload(message)
            if payload is not None:
                self._under_way[self._link.publish(message.topic, payload)] = message

    def _next(self) -> Message | None:
        if not self._queue and self._more:
            found = self._store.undelivered(self._fetched, self._window)
            self._queue.extend(found)
            self._more = len(found) == self._window
            if found:
                self._fetched = found[-1].id
        return self._queue.popleft() if self._queue else None

    def _payload(self, message: Message) -> str | bytes | None:
        """Return what to send; None where its file is awaited, or where it can never be delivered.

        The latter is noted.
        """
        payload: str | bytes = message.payload or ""
        if message.file is not None:
            try:
                payload = Path(message.file).read_bytes()
            except FileNotFoundError:
                self._await_file(message)
                return None
            except OSError as error:
                self._give_up(message, f"{message.file}: {error.strerror}")
                return None
        size = len(payload.encode() if isinstance(payload, str) else payload)
        size += len(message.topic.encode()) + PACKET_OVERHEAD_BYTES
        if self._max_packet_bytes is not None and size > self._max_packet_bytes:
            limit = self._max_packet_bytes
            self._give_up(message, f"{size} bytes; the broker takes packets up to {limit}")
            return None
        return payload

    def _await_file(self, message: Message) -> None:
        if len(self._awaited) == MAX_AWAITED:
            self._give_up_file(self._awaited.popleft()[1])
        self._awaited.append((time.monotonic() + FILE_WAIT_S, message))

    def _look_for_files(self) -> None:
        """Put messages whose file has come at the head of the queue; give up those overdue."""
        now = time.monotonic()
        awaited, self._awaited = self._awaited, deque()
        come = []
        for until, message in awaited:
            if Path(message.file or "").exists():
                come.append(message)
            elif now < until:
                self._awaited.append((until, message))
            else:
                self._give_up_file(message)
        self._queue.extendleft(reversed(come))

    def _give_up_file(self, message: Message) -> None:
        self._give_up(message, f"{message.file}: is not there and does not come")

    def _give_up(self, message: Message, problem: str) -> None:
        logger().error("message undeliverable", topic=message.topic, problem=problem)
        self._delivery.undeliverable[message.id] = problem

    def _delivered(self, message: Message) -> None:
        self._delivery.published[message.id] = datetime.now(timezone.utc)
        if message.id in self._refused_ids:
            self._refused_ids.remove(message.id)
            if self.connected and not self._refused_ids:
                self.problem = None

    def _refused(self, message: Message, refusal: str) -> None:
        """Keep the message and pause: a refusal is the broker's settings, which people mend."""
        self.problem = f"the broker refuses {message.topic}: {refusal}"
        logger().error("broker refuses", topic=message.topic, problem=refusal)
        self._refused_ids.add(message.id)
        self._queue = deque(sorted([message, *self._queue], key=lambda waiting: waiting.id))
        self._paused_until_s = time.monotonic() + REFUSAL_PAUSE_S
