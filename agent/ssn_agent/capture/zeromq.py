"""Parts from any other program, over ZeroMQ: docs/zeromq.md has the format.

A ROUTER socket. Each part of what a peer sends is bounded before it is read (not the number of a
message's parts: a peer that is let in can take memory). A message is answered whatever it is, and
nothing is waited for: an answer that a peer does not take is dropped, and the peer repeats its
message.
"""

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import zmq
from pydantic import ValidationError

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.parts import Parts
from ssn_agent.errors import CameraError, MessageError, short
from ssn_agent.frames.layout import MAX_TRIGGER_ID_BYTES
from ssn_agent.frames.slots import SLOT_BYTES
from ssn_agent.log import logger
from ssn_contract.messages import Trigger
from ssn_contract.zeromq import MAX_HEADER_BYTES, PartAnswer, PartHeader

POLL_MS = 100
BURST = 16
"""Messages taken in one turn, at most."""
QUEUED_MESSAGES = 4
"""Of one peer, beyond which ZeroMQ lets it wait: each may be as large as a pixel slot."""
LINGER_MS = 200
LOG_EVERY_S = 1.0
"""A peer that sends nonsense must not fill the log."""


class ZeroMqInput:
    """Where other programs send a camera's parts, or only their triggers."""

    def __init__(
        self, bind: str | None, triggers: Path, parts: Parts, *, takes_frames: bool = True
    ) -> None:
        """Set up, closed; at `triggers` the ledger process brings those that come by MQTT.

        bind: where others send theirs; None: nowhere. takes_frames: the parts come with frames; a
        camera that makes its own takes triggers alone.
        """
        self._binds = [*([] if bind is None else [bind]), f"ipc://{triggers}"]
        self._parts = parts
        self._takes_frames = takes_frames
        self._socket: zmq.Socket[bytes] | None = None
        self._log_at_s = 0.0

    def open(self) -> None:
        """Bind. Raises CameraError where the address cannot be used."""
        self._socket = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, SLOT_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        # A peer that comes back under its own routing id takes the place of its dead connection.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        for bind in self._binds:
            try:
                self._socket.bind(bind)
            except zmq.ZMQError as error:
                self.close()
                key = "bind" if self._takes_frames else "trigger_bind"
                msg = f"{bind}: cannot be bound ({error}); change the camera's source.{key}"
                raise CameraError(msg) from error

    def serve(self, bell: socket.socket | None = None) -> None:
        """Take and answer what has arrived; wait for it, or for the bell, for 0.1 s at most."""
        if self._socket is None:
            msg = f"{self._binds[0]}: is not open"
            raise CameraError(msg)
        self._parts.expire()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if bell is not None:
            poller.register(bell, zmq.POLLIN)
        if self._socket not in dict(poller.poll(POLL_MS)):
            return
        with suppress(zmq.Again):
            for _ in range(BURST):
                received = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
                begin = _message_at(received)
                answer = self._answer(received[begin:]).model_dump_json().encode()
                self._socket.send_multipart([*received[:begin], answer])

    def close(self) -> None:
        """Unbind; harmless where it is closed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self, message: Sequence[zmq.Frame]) -> PartAnswer:
        trigger_id = None
        try:
            first, *rest = _checked(message)
            trigger_id = _read_id(first)
            trigger, frame = read_part(trigger_id, *rest, takes_frames=self._takes_frames)
        except MessageError as error:
            count = self._parts.note_malformed()
            if time.monotonic() >= self._log_at_s:
                self._log_at_s = time.monotonic() + LOG_EVERY_S
                logger().warning("message not understood", problem=short(error), count=count)
            return PartAnswer(id=trigger_id, status="malformed", problem=short(error))
        return self._parts.take(trigger, frame)


def _message_at(received: Sequence[zmq.Frame]) -> int:
    """Return where the message begins, after the peer's routing id and its envelope.

    A REQ socket ends its envelope with an empty part; before that it may put a number of its own.
    """
    for delimiter in (1, 2):
        if len(received) > delimiter and not len(received[delimiter]):
            return delimiter + 1
    return 1


def _checked(message: Sequence[zmq.Frame]) -> Sequence[zmq.Frame]:
    if len(message) not in {2, 3}:
        msg = f"{len(message)} parts; an id, a header and, where there is one, a frame are taken"
        raise MessageError(msg)
    return message


def _read_id(part: zmq.Frame) -> str:
    if not 0 < len(part) <= MAX_TRIGGER_ID_BYTES:
        msg = f"id: {len(part)} bytes; 1 to 120 characters are taken"
        raise MessageError(msg)
    try:
        return Trigger(id=part.bytes.decode()).id
    except UnicodeDecodeError as error:
        raise MessageError("id: is not UTF-8") from error
    except ValidationError as error:
        raise MessageError.of(error, "trigger") from error


def read_part(
    trigger_id: str,
    header: zmq.Frame,
    pixels: zmq.Frame | None = None,
    *,
    takes_frames: bool = True,
) -> tuple[Trigger, Frame | None]:
    """Return the trigger, and the frame where one came. Raises MessageError."""
    if len(header) > MAX_HEADER_BYTES:
        msg = f"header: {len(header)} bytes; up to {MAX_HEADER_BYTES} are taken"
        raise MessageError(msg)
    try:
        read = PartHeader.model_validate_json(header.bytes)
    except ValidationError as error:
        raise MessageError.of(error, "header") from error
    trigger = Trigger(id=trigger_id, part_id=read.part_id, product=read.product)
    if read.shape is None and pixels is None:
        return trigger, None
    if read.shape is None or pixels is None:
        missing = "a frame came" if read.shape is None else "no frame came"
        msg = f"header: says {read.shape or 'nothing'} of the frame's shape, and {missing}"
        raise MessageError(msg)
    if not takes_frames:
        raise MessageError("pixels: the camera makes its own frames; send triggers alone")
    size = int(np.prod(read.shape))
    if len(pixels) != size or size > SLOT_BYTES:
        shape = " x ".join(map(str, read.shape))
        msg = f"pixels: {len(pixels)} bytes; {shape} are {size}, and up to {SLOT_BYTES} are taken"
        raise MessageError(msg)
    # flat [H * W * C] -> [H, W] or [H, W, 3]
    image = np.frombuffer(pixels.buffer, np.uint8).reshape(read.shape)
    return trigger, Frame(image, read.part_id, read.frame_id)
