"""One camera under test: its counterpart, the real capture process, and who takes its records.

The consumer stands for inference and ledger: it finishes each record of the journal as soon as
capture has closed it, frees its slot, and keeps what it saw. The announcer stands for a line
controller. Neither shares anything with the capture process but the runtime directory.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.heartbeat import beat_due_at
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured, Decision, Outcome, Result
from ssn_agent.frames.notes import CameraState, IntakeNote
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.frames.wake import Doorbell
from support.capture import CaptureProcess, capture_process, connected
from support.counterparts import Counterpart
from support.records import judged
from support.waiting import wait_until

if TYPE_CHECKING:
    from cameras.drivers import Driver

START_S = 60.0
"""On a machine that has much else to do; no bar counts it."""
RECOVERY_LIMIT_S = 60.0
"""After this a row is given up; the bars are far below."""
POLL_S = 0.005
CAPACITY = 1024


@dataclass(frozen=True)
class Seen:
    """A record that capture has closed. Times in nanoseconds of the monotonic clock."""

    sequence: int
    trigger_id: str | None
    part_id: str | None
    triggered_ns: int
    closed_ns: int
    """When the consumer saw it."""
    reason: str | None
    """None: it has a frame, and is judged."""
    content: Hashable = None
    """What tells this exposure from every other; None: nothing does."""
    frame_id: int | None = None
    captured_ns: int = 0


def no_content(_entry: Entry, _pixels: Any) -> None:
    """Tell no exposure from another."""


class Consumer:
    """Takes the journal's records, in a thread of its own."""

    def __init__(
        self, capture: CaptureProcess, content: "Callable[[Entry, Any], Hashable]"
    ) -> None:
        self.seen: list[Seen] = []
        self.late_beat_s = 0.0
        """How long a heartbeat was overdue at worst: the supervisor ends such a process."""
        self._files = capture.files
        self._journal = Journal(capture.files.journal("left"))
        self._slots = PixelSlots(capture.files.pixels("left"))
        self._bell = Doorbell(capture.files.inference_bell)
        self._content = content
        self._open: list[int] = []
        self._next = self._journal.header.first
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Return how many records wait for capture to close them."""
        return len(self._open)

    def close(self) -> None:
        """End the thread and unmap the journal."""
        self._ending.set()
        self._thread.join()
        self._bell.close()
        self._journal.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._bell.wait(POLL_S)
            self._take()
            due_at = beat_due_at(self._files.heartbeat("capture:left"))
            if due_at is not None:
                self.late_beat_s = max(self.late_beat_s, time.monotonic() - due_at)

    def _take(self) -> None:
        head = self._journal.refresh()
        self._open += range(self._next, head + 1)
        self._next = head + 1
        waiting = []
        for sequence in self._open:
            entry = self._journal.read(sequence)
            if entry is None or entry.captured is None:
                waiting.append(sequence)
            else:
                self._finish(entry, entry.captured)
        self._open = waiting

    def _finish(self, entry: Entry, captured: Captured) -> None:
        now_ns = time.monotonic_ns()
        result, content = judged(Outcome.PASS, now_ns), None
        if captured.reason is None:
            size = captured.height, captured.width, captured.pixel_format
            content = self._content(entry, self._slots.view(captured.slot, *size))
        else:
            result = Result(Outcome.INVALID, captured.reason, now_ns)
        self._journal.finish(entry.sequence, result)
        decision = Decision(result.outcome, captured.reason, now_ns, time.time_ns())
        self._journal.decide(entry.sequence, decision)
        self._journal.commit(entry.sequence)
        a = entry.accepted
        self.seen.append(
            Seen(
                entry.sequence,
                a.trigger_id,
                a.part_id,
                a.triggered_monotonic_ns,
                now_ns,
                None if captured.reason is None else captured.reason.value,
                content,
                captured.frame_id,
                captured.frame_monotonic_ns,
            )
        )


@dataclass(frozen=True)
class Asked:
    """A trigger that was sent, and what capture answered."""

    id: str
    sent_ns: int
    status: str
    """Empty: there was no answer in time."""


class Announcer:
    """Announces parts over ZeroMQ, one by one, with their pixels where the source wants them."""

    def __init__(self, bind: str, pixels: NDArray[np.uint8] | None) -> None:
        self.asked: list[Asked] = []
        self._peer = connected(bind)
        self._pixels = pixels

    def ask(self, timeout_s: float = 5.0) -> Asked:
        """Announce the next part, and return the answer."""
        name = f"part-{len(self.asked) + 1}"
        header: dict[str, Any] = {"version": 1, "part_id": name}
        message: list[bytes] = []
        if self._pixels is not None:
            shape = (*self._pixels.shape, 1)
            header |= zip(("height", "width", "channels"), shape, strict=False)
            message = [self._pixels.tobytes()]
        sent_ns = time.monotonic_ns()
        self._peer.send_multipart([name.encode(), json.dumps(header).encode(), *message])
        status = ""
        if self._peer.poll(int(timeout_s * 1000)):
            status = json.loads(self._peer.recv_multipart()[-1])["status"]
        self.asked.append(Asked(name, sent_ns, status))
        return self.asked[-1]

    def close(self) -> None:
        """Disconnect."""
        self._peer.close()


@dataclass
class Line:
    """What a row works with."""

    driver: "Driver"
    counterpart: Counterpart
    capture: CaptureProcess
    consumer: Consumer
    is_triggered: bool
    announcer: Announcer | None
    begun_ns: int = field(default_factory=time.monotonic_ns)
    is_announcing: bool = False
    """A thread announces parts: nobody else may."""
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def seen(self) -> list[Seen]:
        """Return what capture has closed so far."""
        return self.consumer.seen

    @property
    def good(self) -> list[Seen]:
        """Return those of them that have a frame."""
        return [seen for seen in self.seen if seen.reason is None]

    @property
    def state(self) -> CameraState | None:
        """Return how the camera is said to be."""
        note = self.capture.journal.camera_note()
        return None if note is None else note.state

    @property
    def intake(self) -> IntakeNote:
        """Return what has come to the input."""
        return self.capture.journal.intake_note() or IntakeNote()

    def start(self, before: str = "") -> None:
        """Start both, who listens first, and return when a frame is judged; see `Driver.before`."""
        before = f"{self.driver.before}\n{before}"
        if self.counterpart.source["kind"] == "zeromq":
            self.capture.start(before)
            running = CameraState.RUNNING
            wait_until(lambda: self.state is running, START_S, "capture does not listen")
            self.counterpart.start()
        else:
            self.counterpart.start()
            self.capture.start(before)
        self.wait_for_frame(0, START_S)

    def wait_for_frame(self, after_ns: int, limit_s: float = RECOVERY_LIMIT_S) -> Seen:
        """Return the first frame taken after a moment; a triggered camera is asked for it."""
        found: list[Seen] = []

        def is_there() -> bool:
            if self.announcer is not None and not self.is_announcing:
                self.ask()
            found[:] = [s for s in self.seen[-50:] if not s.reason and s.captured_ns > after_ns]
            return bool(found)

        wait_until(is_there, limit_s, f"{self.driver.name}: no frame")
        return found[0]

    def ask(self) -> Asked:
        """Announce a part and wait until it is closed."""
        assert self.announcer is not None
        asked = self.announcer.ask()
        self.wait_closed(asked.id)
        return asked

    def wait_closed(self, trigger_id: str) -> Seen:
        """Return the record of a trigger, once capture has closed it."""
        found: list[Seen] = []

        def is_closed() -> bool:
            found[:] = [seen for seen in self.seen[-50:] if seen.trigger_id == trigger_id]
            return bool(found)

        wait_until(is_closed, 30, f"{self.driver.name}: {trigger_id} is not closed")
        return found[0]

    @contextmanager
    def announcing(self, period_s: float) -> Iterator[None]:
        """Have parts announced meanwhile, where it is triggered; else do nothing."""
        if self.announcer is None:
            yield
            return
        thread = threading.Thread(target=self._announce, args=(self.announcer, period_s))
        self.is_announcing = True
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()
            self.is_announcing = False
            self._ending.clear()

    def _announce(self, announcer: Announcer, period_s: float) -> None:
        while not self._ending.wait(period_s):
            announcer.ask()

    def settle(self) -> None:
        """Wait until no record is open."""
        wait_until(lambda: not self.consumer.pending, 30, f"{self.driver.name}: records stay open")


@contextmanager
def line(
    driver: "Driver",
    folder: Path,
    *,
    triggered: bool = False,
    full_rate: bool = False,
    deadline_ms: float = 2000.0,
    **source: Any,
) -> Iterator[Line]:
    """Make one, not yet started; whatever runs at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="ssn-") as made:
        runtime = Path(made)
        make, content = driver.make, driver.content
        if full_rate and driver.make_full_rate:
            make, content = driver.make_full_rate, no_content  # looking takes time
        with make(folder) as counterpart:
            settings = {**counterpart.source, **source}
            if triggered and not driver.sends:
                settings["trigger"] = "software"
            with (
                capture_process(
                    folder, runtime, capacity=CAPACITY, deadline_ms=deadline_ms, source=settings
                ) as capture,
                closing(Consumer(capture, content)) as consumer,
            ):
                pixels = np.zeros((96, 128), np.uint8) if driver.sends else None
                bind = settings["bind"] if driver.sends else capture.bind
                announcer = Announcer(bind, pixels) if triggered else None
                try:
                    yield Line(driver, counterpart, capture, consumer, triggered, announcer)
                finally:
                    if announcer is not None:
                        announcer.close()
