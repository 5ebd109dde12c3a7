"""Labels into the ledger, by MQTT and from other processes; run by the ledger process.

A message by MQTT is acknowledged to the broker when its label is on the disk, so the broker repeats
what was under way when this process died; `ledger.label_writer` tells what is repeated. What is not
understood, or is of no verdict here, is logged, counted and acknowledged: the broker would repeat
it for ever. A command or the HTTP API gets its answer at the same moment.

While the ledger cannot be written, labels by MQTT wait, but only so many: the broker holds back
what follows, triggers too. A label that cannot be written never holds a verdict up.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from pydantic import ValidationError

from ssn_agent.errors import LedgerError, MessageError, short
from ssn_agent.labels.handover import Handed
from ssn_agent.ledger.label_writer import LabelWriter, Said
from ssn_agent.log import logger
from ssn_agent.publish.events import Arrived
from ssn_contract.http import LabelAnswer
from ssn_contract.messages import MAX_LABEL_BYTES, Label, LabelCounts

AT_ONCE = 16
"""Labels of other processes a transaction, and labels by MQTT that wait while the ledger cannot be
written: half of what the broker sends unacknowledged."""
MAX_QUEUED = 64
"""Of other processes."""
LINGER_MS = 200
RETRY_S = 1.0
_AWAY = LabelAnswer(status="unavailable", problem="the ledger cannot be written at present")


@dataclass
class _Waiting:
    """A label that is not in the ledger yet, and how to say that it is."""

    said: Said
    answer: Callable[[LabelAnswer], None]
    event: Arrived | None = None
    """The message that it came in; None: another process waits for the answer."""


class LabelIntake:
    """Takes labels and answers them."""

    def __init__(
        self,
        topic: str,
        socket_file: Path,
        acknowledge: Callable[[Arrived], None],
        writer: LabelWriter,
    ) -> None:
        """Bind the socket on which other processes hand labels over."""
        self.topic = topic
        self._acknowledge = acknowledge
        self._writer = writer
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_LABEL_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, MAX_QUEUED)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.bind(f"ipc://{socket_file}")
        self._waiting: list[_Waiting] = []
        self._problem: str | None = None
        self._retry_at_s = 0.0
        self.refused = 0
        """Labels by MQTT that were not taken."""

    def take(self, event: Arrived) -> None:
        """Take up a message of the broker's.

        Never refused for want of room here: many may come before the next turn writes them.
        """
        try:
            label = self._read(event)
        except MessageError as error:
            self._refuse(event, short(error))
            return

        def answer(given: LabelAnswer) -> None:
            if given.problem is not None:
                self._refuse(event, given.problem)
            else:
                self._acknowledge(event)

        item = _Waiting(Said(label, "mqtt"), answer, event)
        for place, waiting in enumerate(self._waiting):
            if _is_sent_again(waiting.event, event):
                self._waiting[place] = item  # what is acknowledged is the message that stands
                return
        self._waiting.append(item)

    def turn(self, *, can_write: bool) -> None:
        """Write what has come, and answer. Raises LedgerDamaged."""
        handed = self._receive()
        batch = [*self._waiting, *handed]
        if not batch:
            return
        if not can_write or time.monotonic() < self._retry_at_s:
            self._put_off(handed)
            return
        try:
            answers = self._writer.write([item.said for item in batch])
        except LedgerError as error:
            self._failed(error)
            self._put_off(handed)
            return
        self._problem = None
        self._waiting.clear()
        for item, answer in zip(batch, answers, strict=True):
            item.answer(answer)

    def counts(self) -> LabelCounts:
        """Return how many verdicts are labelled, and how. Raises LedgerError."""
        return self._writer.counts()

    def alarms(self) -> list[str]:
        """Say that labels cannot be written."""
        return [] if self._problem is None else [f"labels: {self._problem}"]

    def close(self) -> None:
        """Unbind; what is not acknowledged is sent by the broker again."""
        self._socket.close()

    def _put_off(self, handed: list[_Waiting]) -> None:
        """Have other processes say it again, and of the broker's keep only so many waiting."""
        for item in (*handed, *self._waiting[AT_ONCE:]):
            item.answer(_AWAY)
        del self._waiting[AT_ONCE:]

    def _failed(self, error: LedgerError) -> None:
        if self._problem is None:
            logger().error("labels cannot be written", problem=str(error))
        self._problem = str(error)
        self._retry_at_s = time.monotonic() + RETRY_S
        self._writer.close()

    def _receive(self) -> list[_Waiting]:
        found: list[_Waiting] = []
        with suppress(zmq.Again):
            for _ in range(AT_ONCE):
                *peer, message = self._socket.recv_multipart(zmq.NOBLOCK)

                def answer(given: LabelAnswer, peer: list[bytes] = peer) -> None:
                    self._socket.send_multipart([*peer, given.model_dump_json().encode()])

                try:
                    handed = Handed.model_validate_json(message)
                except ValidationError as error:
                    problem = short(MessageError.of(error, "label"))
                    answer(LabelAnswer(status="malformed", problem=problem))
                    continue
                found.append(_Waiting(Said(handed.label, handed.source), answer))
        return found

    def _read(self, event: Arrived) -> Label:
        if event.topic != self.topic:
            msg = f"this station takes labels on {self.topic}"
            raise MessageError(msg)
        if len(event.payload) > MAX_LABEL_BYTES:
            msg = f"{len(event.payload)} bytes; up to {MAX_LABEL_BYTES} are taken"
            raise MessageError(msg)
        try:
            return Label.model_validate_json(event.payload)
        except ValidationError as error:
            raise MessageError.of(error, "label") from error

    def _refuse(self, event: Arrived, problem: str) -> None:
        self.refused += 1
        topic, count = event.topic, self.refused
        logger().warning("label refused", topic=topic, problem=problem, count=count)
        self._acknowledge(event)


def _is_sent_again(before: Arrived | None, event: Arrived) -> bool:
    """Say whether a message is one of an earlier connection that was not acknowledged there."""
    return (
        before is not None
        and before.connection != event.connection
        and before.payload == event.payload
    )
