"""The witness's sender: `python -m chaos.sender PLAN FOLDER`.

Offers numbered parts over ZeroMQ, as docs/zeromq.md tells a sender to: each under an id of its own,
repeated every second until it is answered. It knows nothing of the agent but that page, is no child
of it, and keeps its own lists in FOLDER:

    offered.jsonl    id, camera, number, at: written before the part is sent for the first time
    answers.jsonl    id, status, epoch, sequence, at: the first answer, and every one that differs

Times are seconds of the monotonic clock, which all processes of a machine share. SIGTERM ends the
offering; what is not answered is repeated for 10 s more.
"""

import json
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from pydantic import BaseModel

from chaos.lines import LinesWriter

REPEAT_S = 1.0
PATIENCE_S = 10.0
DEFECT_EVERY = 4
"""Every so-manieth part has a defect: what the verdict should be is known by the number."""


class Plan(BaseModel):
    """What to offer."""

    binds: dict[str, str]
    """Addresses by camera."""
    fps: float
    """Of each camera."""
    height: int = 96
    width: int = 128
    parts: int | None = None
    """Of each camera; None: until SIGTERM."""


def is_defective(number: int) -> bool:
    """Say whether the part of that number has a defect."""
    return number % DEFECT_EVERY == 0


class Lane:
    """One camera's parts."""

    def __init__(self, camera: str, bind: str, plan: Plan, run: str, start_at: float) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.SNDHWM, 2)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self.socket.connect(bind)
        self._camera = camera
        self._plan = plan
        self._run = run
        self._number = 0
        self._start_at = start_at
        self._due_at: dict[str, float] = {}
        """Ids without an answer, oldest first, and when each is sent (again)."""
        good, bad = draw(plan)
        self._pixels = {False: good, True: bad}

    @property
    def waits(self) -> bool:
        """Say whether parts are without an answer."""
        return bool(self._due_at)

    @property
    def is_done(self) -> bool:
        """Say whether everything planned was offered."""
        return self._plan.parts is not None and self._number >= self._plan.parts

    def next_at(self) -> float:
        """Return when the next new part is offered."""
        return self._start_at + self._number / self._plan.fps

    def offer(self, now: float, offered: LinesWriter) -> None:
        """Note the next part; `send` sends it."""
        self._number += 1
        name = f"{self._run}-{self._camera}-{self._number}"
        offered.append(id=name, camera=self._camera, number=self._number, at=now)
        self._due_at[name] = now

    def send(self, now: float) -> None:
        """Send what is due, for the first time or again, as far as the connection takes it."""
        for name, due_at in self._due_at.items():
            if due_at > now:
                continue
            number = int(name.rpartition("-")[2])
            pixels = self._pixels[is_defective(number)]
            header = {"version": 1, "part_id": name, "frame_id": number, "channels": 1}
            header |= {"height": self._plan.height, "width": self._plan.width}
            try:
                parts = (name.encode(), json.dumps(header).encode())
                message: list[bytes | memoryview] = [*parts, pixels.data]
                self.socket.send_multipart(message, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._due_at[name] = now + REPEAT_S

    def take(self) -> Iterator[dict[str, Any]]:
        """Yield the answers that have arrived."""
        while self.socket.poll(0):
            answer = json.loads(self.socket.recv())
            if answer["status"] != "refused":
                self._due_at.pop(answer["id"], None)
            yield answer


def draw(plan: Plan) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a good and a bad part, [H, W]: gray noise, and the same with a bright block."""
    rng = np.random.default_rng(0)
    good = rng.integers(20, 90, (plan.height, plan.width), dtype=np.uint8)
    bad = good.copy()
    bad[plan.height // 3 : plan.height // 2, plan.width // 3 : plan.width // 2] = 250
    return good, bad


class Sender:
    """All cameras' parts."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._offered = LinesWriter(folder / "offered.jsonl")
        self._answers = LinesWriter(folder / "answers.jsonl")
        self._known: dict[str, tuple[Any, Any]] = {}
        self._stopped = False
        run, start_at = uuid.uuid4().hex, time.monotonic()
        self._lanes = [
            # Apart by a fraction of the period, as cameras without a common clock are.
            Lane(name, bind, plan, run, start_at + i / len(plan.binds) / plan.fps)
            for i, (name, bind) in enumerate(plan.binds.items())
        ]
        self._poller = zmq.Poller()
        for lane in self._lanes:
            self._poller.register(lane.socket, zmq.POLLIN)
        signal.signal(signal.SIGTERM, self._stop)

    def run(self) -> None:
        """Offer until asked to stop or until all is offered, then wait for the last answers."""
        while not self._stopped and not all(lane.is_done for lane in self._lanes):
            self._turn(offering=True)
        ends_at = time.monotonic() + PATIENCE_S
        while any(lane.waits for lane in self._lanes) and time.monotonic() < ends_at:
            self._turn(offering=False)

    def _turn(self, *, offering: bool) -> None:
        now = time.monotonic()
        wake_at = now + 0.05
        for lane in self._lanes:
            while offering and not lane.is_done and lane.next_at() <= now:
                lane.offer(now, self._offered)
            lane.send(now)
            if offering and not lane.is_done:
                wake_at = min(wake_at, lane.next_at())
        self._poller.poll(max(0, int((wake_at - time.monotonic()) * 1000)))
        for lane in self._lanes:
            for answer in lane.take():
                self._note(answer)

    def _note(self, answer: dict[str, Any]) -> None:
        name, key = answer["id"], (answer["epoch"], answer["sequence"])
        if answer["status"] == "refused" or self._known.get(name) == key:
            return
        self._known[name] = key
        fields = {field: answer[field] for field in ("id", "status", "epoch", "sequence")}
        self._answers.append(**fields, at=time.monotonic())

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._stopped = True


def main(plan: str, folder: str) -> None:
    """Run until asked to stop."""
    Sender(Plan.model_validate_json(Path(plan).read_bytes()), Path(folder)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
