"""Verdicts that cannot be committed now: decided, sent once, marked, and kept in the journals."""

import time
from collections.abc import Iterator, Mapping

from ssn_agent.ledger.stream import PendingTriggers
from ssn_agent.ledger.verdicts import Decided, VerdictWriter
from ssn_agent.publish.mqtt import BrokerLink
from ssn_contract.topics import Topics


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
        self._sent: set[tuple[str, int]] = set()

    def forget(self) -> None:
        """Send all of them again: the connection is another one, or the ledger was back."""
        self._sent.clear()

    def go_on(self, *, connected: bool) -> None:
        """Decide what is due, send what the line has room for, count what no journal can keep.

        What is only counted is sent before its record is another trigger's, unless there is no
        broker.
        """
        for stream in self._streams.values():
            stream.refresh()
            stream.decide(time.monotonic_ns(), time.time_ns())
        if connected:
            self._send()
        for name, stream in self._streams.items():
            told = {number for camera, number in self._sent if camera == name}
            given_up = stream.give_up_spilled(told if connected else None)
            self._sent -= {(name, number) for number in given_up}

    def _send(self) -> None:
        for item in self._unsent():
            camera = item.header.camera
            marked = item.message.model_copy(update={"durable": False})
            if self._link.publish(self._topics.verdict(camera), marked.model_dump_json()) is None:
                return  # no room at present
            self._sent.add((camera, item.entry.sequence))

    def _unsent(self) -> Iterator[Decided]:
        """Yield what was not sent yet, made only when asked for: there may be thousands."""
        for name, stream in self._streams.items():
            unsent = [number for number in stream.decided if (name, number) not in self._sent]
            for entry in map(stream.journal.read, unsent):
                if entry is not None and entry.decision is not None:
                    header, now_ns = stream.journal.header, time.monotonic_ns()
                    yield self._messages.decided(header, entry, entry.decision, now_ns)
