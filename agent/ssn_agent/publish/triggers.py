"""Triggers from the broker to the capture processes that count them.

A message is acknowledged to the broker when the camera's journal holds its trigger, so the broker
repeats what was under way when a process died; a repeated id is the same trigger. It goes the way
of every other sender's (docs/zeromq.md), over a socket in the runtime directory. What is not
understood is logged, counted and acknowledged: the broker would repeat it for ever.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from pydantic import ValidationError

from ssn_agent.errors import MessageError, short
from ssn_agent.log import logger
from ssn_agent.publish.events import Arrived, Subscribed
from ssn_contract.messages import MAX_TRIGGER_BYTES, Trigger
from ssn_contract.zeromq import PartAnswer, PartHeader

REPEAT_S = 0.5
"""After this long without an answer a trigger is sent to its capture process again."""
MAX_WAITING = 256
"""Triggers at QoS 0 that wait for capture: those at QoS 1 the broker holds back."""


@dataclass
class _Waiting:
    """A trigger that no journal is known to hold yet."""

    camera: str
    message: list[bytes]
    arrived: list[Arrived] = field(default_factory=list)
    send_at: float = 0.0


class TriggerForwarder:
    """Hands triggers on, and acknowledges them when they are counted."""

    def __init__(
        self, sockets: Mapping[str, tuple[str, Path]], acknowledge: Callable[[Arrived], None]
    ) -> None:
        """Connect to the cameras that take triggers: camera -> (topic, socket file)."""
        self._acknowledge = acknowledge
        self._cameras = {topic: camera for camera, (topic, _) in sockets.items()}
        self._peers = {camera: _connect(path) for camera, (_, path) in sockets.items()}
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self.refused = 0
        """Messages that were not understood."""
        self.problem: str | None = None
        """Which triggers or labels the broker does not let us read; None while all is well."""

    @property
    def topics(self) -> list[str]:
        """Return what to subscribe to."""
        return list(self._cameras)

    @property
    def waiting(self) -> int:
        """Return how many triggers no journal is known to hold yet."""
        return len(self._waiting)

    def take(self, event: Arrived | Subscribed) -> None:
        """Take up what the broker's line reports."""
        if isinstance(event, Subscribed):
            self.problem = event.refusal
            if event.refusal is not None:
                logger().error("triggers or labels not subscribed", problem=event.refusal)
            return
        try:
            camera, trigger = self._read(event)
        except MessageError as error:
            self.refused += 1
            logger().warning(
                "trigger refused", topic=event.topic, problem=short(error), count=self.refused
            )
            self._acknowledge(event)
            return
        header = PartHeader(version=1, part_id=trigger.part_id, product=trigger.product)
        message = [trigger.id.encode(), header.model_dump_json().encode()]
        waiting = self._waiting.setdefault((camera, trigger.id), _Waiting(camera, message))
        waiting.arrived.append(event)

    def turn(self) -> None:
        """Send what waits, take the answers, acknowledge what is counted."""
        for camera, peer in self._peers.items():
            with suppress(zmq.Again):
                while True:
                    self._answered(camera, PartAnswer.model_validate_json(peer.recv(zmq.NOBLOCK)))
        now = time.monotonic()
        for waiting in self._waiting.values():
            if now >= waiting.send_at:
                with suppress(zmq.Again):  # its capture process is away, or has enough to do
                    self._peers[waiting.camera].send_multipart(waiting.message, zmq.NOBLOCK)
                    waiting.send_at = now + REPEAT_S

    def close(self) -> None:
        """Disconnect; what is not acknowledged is sent by the broker again."""
        for peer in self._peers.values():
            peer.close()

    def _read(self, event: Arrived) -> tuple[str, Trigger]:
        camera = self._cameras.get(event.topic)
        if camera is None:
            raise MessageError("this camera takes no triggers")
        if len(event.payload) > MAX_TRIGGER_BYTES:
            msg = f"{len(event.payload)} bytes; up to {MAX_TRIGGER_BYTES} are taken"
            raise MessageError(msg)
        try:
            trigger = Trigger.model_validate_json(event.payload)
        except ValidationError as error:
            raise MessageError.of(error, "trigger") from error
        if event.qos == 0 and len(self._waiting) >= MAX_WAITING:
            msg = f"{MAX_WAITING} triggers wait for capture already; send at QoS 1"
            raise MessageError(msg)
        return camera, trigger

    def _answered(self, camera: str, answer: PartAnswer) -> None:
        if answer.status == "refused":  # the journal is full: it is sent again
            return
        waiting = self._waiting.pop((camera, answer.id or ""), None)
        if waiting is not None:
            for event in waiting.arrived:
                self._acknowledge(event)


def _connect(path: Path) -> "zmq.Socket[bytes]":
    peer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    peer.setsockopt(zmq.LINGER, 0)
    peer.setsockopt(zmq.IMMEDIATE, 1)  # towards a process that is not there nothing piles up
    peer.connect(f"ipc://{path}")
    return peer
