"""Verdicts that cannot be committed now: decided, sent once, marked, and kept in the journals."""

import time
from collections.abc import Iterator, Mapping

from ssn_agent.frames.layout import SPILL_RECORDS
from ssn_agent.ledger.stream import PendingTriggers
from ssn_agent.ledger.verdicts import Decided, VerdictWriter
from ssn_agent.publish.mqtt import BrokerLink
from ssn_contract.topics import Topics

MAX_UNTOLD = SPILL_RECORDS * 3 // 4
"""Triggers of a camera that are only counted, and wait for the line to be told: beyond that they
are counted untold, or the next ones would not even be counted."""


class Unwritten:
    """Goes on while the ledger is away."""

    def __init__(
        self,
        streams: Mapping[str, PendingTriggers],
        messages: VerdictWriter,
        link: BrokerLink,
        topics: Topics,
    ) -> None:
        """Take the cameras' streams, by name, and the ways to make and send their messages."""
        self._streams = streams
        self._messages = messages
        self._link = link
        self._topics = topics
        self._sent: dict[str, set[int]] = {name: set() for name in streams}

    def forget(self) -> None:
        """Send all of them again: the connection is another one, or the ledger was back."""
        for sent in self._sent.values():
            sent.clear()

    def go_on(self, *, connected: bool) -> None:
        """Decide what is due, send what the line has room for, count what no journal can keep."""
        for stream in self._streams.values():
            stream.refresh()
            stream.decide(time.monotonic_ns(), time.time_ns())
        if connected:
            self._send()
        for name, stream in self._streams.items():
            waits = connected and len(stream.spilled) <= MAX_UNTOLD
            self._sent[name].difference_update(
                stream.give_up_spilled(self._sent[name] if waits else None)
            )

    def _send(self) -> None:
        for item in self._unsent():
            camera = item.header.camera
            topic = self._topics.verdict(camera)
            text = item.message.model_copy(update={"durable": False}).model_dump_json()
            # One that is too large for the broker is left to the outbox: it holds up no other.
            if self._link.takes(topic, text) and self._link.publish(topic, text) is None:
                return  # no room at present
            self._sent[camera].add(item.entry.sequence)

    def _unsent(self) -> Iterator[Decided]:
        """Yield what was not sent yet, made only when asked for: there may be thousands.

        First what is only counted: its record is wanted soonest.
        """
        for stream in self._streams.values():
            yield from self._unsent_of(stream, stream.spilled)
        for stream in self._streams.values():
            yield from self._unsent_of(stream, stream.decided)

    def _unsent_of(self, stream: PendingTriggers, numbers: list[int]) -> Iterator[Decided]:
        header = stream.journal.header
        sent = self._sent[header.camera]
        for entry in map(stream.journal.read, (n for n in numbers if n not in sent)):
            if entry is not None and entry.decision is not None:
                now_ns = time.monotonic_ns()
                yield self._messages.decided(header, entry, entry.decision, now_ns)
