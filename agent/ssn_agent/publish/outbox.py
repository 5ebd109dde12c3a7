"""Committed messages to the broker: in order, at least once, a bounded number under way.

A message leaves the outbox when the broker has acknowledged it, or when it can never be delivered.
The ledger is the only memory: each connection begins with the oldest message that waits there, so
what was under way when the last one ended, or when this process died, is sent again before anything
that came after it. Consumers tell repeated verdicts by their key. A verdict that has waited is
marked as historical when it is sent.

What the broker refuses waits, and with it what follows of the same camera (`refusals`).

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
from ssn_agent.publish.events import Acknowledged, Connected, Disconnected, Event
from ssn_agent.publish.historical import Waits, as_historical
from ssn_agent.publish.mqtt import oversize
from ssn_agent.publish.refusals import Refusals

FILE_WAIT_S = 3.0
MAX_AWAITED = 1000
"""Files that are looked for at once; beyond that the first ones are given up early."""
PAGE = 200
MAX_PAGES = 10
"""Pages of waiting messages that are read in one turn: of a lane that is held they are passed over,
however many they are."""


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

    @property
    def room(self) -> int:
        """How many messages may be sent now; 0 without a connection."""
        ...

    def publish(self, topic: str, payload: str | bytes) -> int | None:
        """Send at QoS 1 and return the packet id; None where the connection has just gone."""
        ...


class Store(Protocol):
    """What the outbox needs of the ledger."""

    def undelivered(self, after: int, limit: int) -> Sequence[Message]:
        """Return waiting messages with ids above `after`, oldest first."""
        ...

    def newest_message(self) -> int:
        """Return the highest id of a message; 0 where there is none."""
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

    def __init__(self, link: Link, store: Store) -> None:
        """Set up; the ledger may be away."""
        self._link = link
        self._store = store
        self._waits = Waits()
        self._delivery = Delivery()
        self._max_packet_bytes: int | None = None
        self._refusals: Refusals[Message] = Refusals()
        self._refused_else: str | None = None
        self._begin()
        self.connected = False
        self._disconnected: str | None = None

    def open(self) -> None:
        """Note what waits in the ledger already: it is no news. Raises LedgerError.

        To be called before this process commits anything; again, it does nothing.
        """
        if not self._waits.has_begun:
            self._waits.begin(self._store.newest_message())

    def _begin(self) -> None:
        """Begin with the oldest message: a new connection knows nothing of those under way."""
        self._queue: deque[Message] = deque()
        self._fetched = 0
        self._more = True
        self._under_way: dict[int, Message] = {}
        self._awaited: deque[tuple[float, Message]] = deque()
        self._too_large: str | None = None

    @property
    def problem(self) -> str | None:
        """Why something is not delivered at present; None while all is well."""
        if not self.connected:
            return self._disconnected
        return self._refusals.problem or self._too_large

    @property
    def idle(self) -> bool:
        """Nothing waits, is under way, or is still to be noted."""
        waiting = self._queue or self._awaited or self._under_way or self._refusals or self._more
        return not (waiting or self._delivery)

    def wake(self, newest: int) -> None:
        """Say that the ledger has committed more: messages up to the id `newest`."""
        self._waits.committed(newest)
        self._more = True

    def take(self, event: Event) -> None:
        """Take up what the broker's line reports."""
        match event:
            case Connected(max_packet_bytes):
                self._begin()
                self.connected, self._disconnected = True, None
                self._max_packet_bytes = max_packet_bytes
                logger().info("broker connected", max_packet_bytes=max_packet_bytes)
            case Disconnected(reason):
                if reason != self._disconnected:
                    logger().warning("broker not connected", problem=reason)
                self._refusals.connection_ended(self._under_way.values(), reason)
                self._begin()
                self.connected, self._disconnected = False, reason
            case Acknowledged(mid, refusal):
                message = self._under_way.pop(mid, None)
                if message is not None and refusal is None:
                    self._delivered(message)
                elif message is not None:
                    self._refusals.refused(message, str(refusal))
                elif refusal is not None and refusal != self._refused_else:
                    logger().error("broker refuses status or models", problem=refusal)
                    self._refused_else = refusal

    def take_delivery(self) -> Delivery:
        """Return what is to be noted, and forget it."""
        delivery, self._delivery = self._delivery, Delivery()
        return delivery

    def put_back(self, delivery: Delivery) -> None:
        """Remember what the ledger could not note, for the next time."""
        self._delivery.published.update(delivery.published)
        self._delivery.undeliverable.update(delivery.undeliverable)

    def pump(self) -> None:
        """Send as much as the line has room for. Raises LedgerError."""
        if not self.connected:
            return
        self._try_refused_again()
        self._look_for_files()
        pages = 0
        while self._link.room:
            if self._queue:
                message = self._queue.popleft()
                if not self._refusals.hold(message):  # else it is read again later
                    self._send(message)
            elif self._more and pages < MAX_PAGES:
                self._fetch()
                pages += 1
            else:
                return

    def _fetch(self) -> None:
        found = self._store.undelivered(self._fetched, PAGE)
        self._more = len(found) == PAGE
        if found:
            self._fetched = found[-1].id
        # Read again, they may be here already.
        known = {message.id for message in self._under_way.values()}
        known |= {message.id for _, message in self._awaited}
        known |= self._delivery.published.keys() | self._delivery.undeliverable.keys()
        self._queue.extend(message for message in found if message.id not in known)

    def _send(self, message: Message) -> bool:
        """Send a message; say whether it is under way."""
        payload = self._payload(message)
        if payload is None:
            return False
        mid = self._link.publish(message.topic, payload)
        if mid is None:  # the connection has gone: the next one begins anew
            return False
        self._under_way[mid] = message
        return True

    def _payload(self, message: Message) -> str | bytes | None:
        """Return what to send; None where its file is awaited, or where it cannot be delivered."""
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
        elif self._waits.too_long(message.id):
            payload = as_historical(message.payload or "")
        problem = oversize(message.topic, payload, self._max_packet_bytes)
        if problem is not None:
            self._leave_out(message, problem)
            return None
        return payload

    def _leave_out(self, message: Message, problem: str) -> None:
        """Give up a picture that is too large; a verdict waits for a broker that takes it."""
        if message.file is not None:
            self._give_up(message, problem)
        elif self._too_large is None:
            self._too_large = f"{message.topic}: {problem}; raise its limit"
            logger().error("message too large", topic=message.topic, problem=problem)

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
        if self._refusals.released(message):
            self._read_again()

    def _try_refused_again(self) -> None:
        """Send the first message of each lane that has been held for long enough."""
        for message in self._refusals.due(self._under_way.values()):
            if not self._link.room:
                return
            self._refusals.tried(message)
            if not self._send(message) and self._refusals.released(message):
                self._read_again()  # it is given up, or awaits its file

    def _read_again(self) -> None:
        """Begin with the oldest message again: what was passed over while its lane was held."""
        self._queue.clear()
        self._fetched = 0
        self._more = True
