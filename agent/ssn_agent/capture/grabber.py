"""A camera that is asked for single frames, in a thread of its own.

Whatever the camera does, the capture process' main loop goes on answering triggers: so a trigger
that cannot have a frame is INVALID at once, and not after the camera's time-outs.

A frame is its trigger's because nothing else is under way: one trigger is fired at a time, what was
exposed before it never comes (`Camera.trigger`), and after one that got no frame in time the camera
is armed afresh before the next is fired. So a frame that is late, or never came, shifts nothing.
"""

import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.reopening import Reopening
from ssn_agent.errors import CameraEnded, CameraError

ASK_S = 0.005
"""How long a camera is asked for a frame before the next look at what is wanted of it."""
STOP_S = 5.0
MARGIN_S = 1.0
"""On a machine that has too much to do."""


@dataclass(frozen=True)
class Ready:
    """The camera is open and armed."""


@dataclass(frozen=True)
class Brought:
    """The frame of a trigger."""

    sequence: int
    frame: Frame


@dataclass(frozen=True)
class Stray:
    """A frame came that nobody asked for."""


@dataclass(frozen=True)
class Failed:
    """The camera gives no frame until it is `Ready` again, or never where it has ended."""

    error: CameraError
    is_news: bool = True
    """It is not what it failed with last."""


Event = Ready | Brought | Stray | Failed


@dataclass(frozen=True)
class _Order:
    sequence: int
    deadline_ns: int


class Grabber:
    """The camera's thread. Its methods are for the main loop, which owns the journal."""

    def __init__(self, camera: Camera) -> None:
        """Set up; nothing is opened yet."""
        self._camera = camera
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.bell, self._ring = socket.socketpair()
        """`bell` becomes readable where there are events."""
        for end in (self.bell, self._ring):
            end.setblocking(False)
        self._is_ready = False
        self._ending = threading.Event()
        self._due_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Open the camera, for as long as it takes, and keep it open."""
        self._promise(self._camera.open_limit_s)
        self._thread.start()

    def ask(self, sequence: int, deadline_ns: int) -> bool:
        """Ask for the frame of a trigger; False: there is no camera at present."""
        if self._is_ready:
            self._orders.put(_Order(sequence, deadline_ns))
        return self._is_ready

    def events(self) -> list[Event]:
        """Return what has happened since the last call. Raises CameraError where it broke."""
        with suppress(BlockingIOError):
            while self.bell.recv(4096):
                pass
        is_alive = self._thread.is_alive()  # before the queue: its last words are read
        found = []
        while not self._events.empty():
            event = self._events.get_nowait()
            # Here, not in the thread: a trigger that is taken before this is read has its answer.
            self._is_ready = isinstance(event, Ready) or (
                self._is_ready and not isinstance(event, Failed)
            )
            found.append(event)
        if not is_alive and not found and not self._ending.is_set():
            raise CameraError("the camera's thread has broken; the log says where")
        return found

    @property
    def hangs(self) -> bool:
        """Say whether the camera has not come back from a call within its own limits."""
        return time.monotonic() > self._due_s and self._thread.is_alive()

    def stop(self) -> None:
        """End the thread and close the camera."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        reopening = Reopening()
        while not self._ending.is_set():
            try:
                self._promise(self._camera.open_limit_s)
                self._camera.open()
                self._arm()
                self._forget_orders()
                self._tell(Ready())
                self._serve(reopening)
            except CameraEnded as ended:
                self._tell(Failed(ended))
                return
            except CameraError as error:
                wait_s = reopening.next_wait_s()
                self._tell(Failed(error, reopening.is_news(str(error))))
                self._promise(wait_s)
                self._ending.wait(wait_s)
            finally:
                self._promise(self._camera.open_limit_s)
                self._camera.close()

    def _serve(self, reopening: Reopening) -> None:
        while not self._ending.is_set():
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                if self._next_frame() is not None:
                    self._tell(Stray())
                continue
            if time.monotonic_ns() > order.deadline_ns:
                continue  # while the camera was armed: the next one has more time left
            self._promise(self._camera.frame_limit_s)
            self._camera.trigger()
            frame = self._await(order)
            if frame is not None:
                self._tell(Brought(order.sequence, frame))
                reopening.is_well()
            elif not self._ending.is_set():
                self._arm()

    def _forget_orders(self) -> None:
        """Fire no trigger that was lost with the camera."""
        with suppress(queue.Empty):
            while True:
                self._orders.get_nowait()

    def _await(self, order: _Order) -> Frame | None:
        """Return the order's frame; None where none has come by its deadline."""
        while time.monotonic_ns() <= order.deadline_ns and not self._ending.is_set():
            frame = self._next_frame()
            if frame is not None:
                return frame
        return None

    def _next_frame(self) -> Frame | None:
        self._promise(ASK_S + self._camera.frame_limit_s)
        return self._camera.next_frame(ASK_S)

    def _arm(self) -> None:
        self._promise(self._camera.open_limit_s)
        self._camera.arm()

    def _promise(self, within_s: float) -> None:
        self._due_s = time.monotonic() + within_s + MARGIN_S

    def _tell(self, event: Event) -> None:
        self._events.put(event)
        with suppress(BlockingIOError):  # it rings already
            self._ring.send(b"!")
