"""How fast and how regularly a camera gives frames, what it loses, and what it costs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.frame_ids import missed
from ssn_agent.commissioning.session import Chosen, take
from ssn_agent.errors import CameraEnded, CameraError

ASK_S = 0.05


@dataclass(frozen=True)
class Spread:
    """Of some durations, in milliseconds."""

    median: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Spread | None":
        """Sum up; None where there are none."""
        if not seconds:
            return None
        return cls(
            *(round(1000 * float(v), 3) for v in (*np.percentile(seconds, [50, 99]), max(seconds)))
        )


@dataclass(frozen=True)
class Figures:
    """What was measured; the first frame is not counted."""

    seconds: float
    frames: int
    incomplete: int
    """Of those."""
    missed: int | None
    """Counted by the device and never delivered; None: its frames have no ids."""
    recounts: int
    """How often the device began to count anew: what was lost there is not known."""
    twice: int
    """Frames that came a second time."""
    per_second: float | None
    interval_ms: Spread | None
    """Between the moments at which frames were taken."""
    jitter_ms: float | None
    """The standard deviation of that."""
    latency_ms: Spread | None
    """From that moment until the frame is in hand."""
    trigger_to_frame_ms: Spread | None
    """None: it was not triggered."""
    without_frame: int
    """Triggers that got none before the camera's deadline."""
    cpu_ms_per_frame: float | None
    """Of all threads of this process: the driver, and the decoding where there is some."""
    ended: str
    """Why it ended before its time; empty: it did not."""
    is_fault: bool
    """That was a fault of the camera."""


@dataclass
class Bench:
    """A measurement under way; Ctrl-C leaves what there is so far."""

    camera: Camera
    chosen: Chosen
    _incomplete: int = 0
    _missed: int = 0
    _recounts: int = 0
    _twice: int = 0
    _has_ids: bool = False
    _without_frame: int = 0
    _taken_s: list[float] = field(default_factory=list)
    _latency_s: list[float] = field(default_factory=list)
    _trigger_s: list[float] = field(default_factory=list)
    _last_id: int | None = None
    _ended: str = ""
    _is_fault: bool = False

    def run(self, seconds: float, begun: Callable[[], None] = lambda: None) -> Figures:
        """Measure until the time is up, the source ends or fails, or Ctrl-C.

        `begun` is called after the first frame, which is not counted: from here on Ctrl-C leaves
        figures. Raises CameraError where not even that one comes.
        """
        self._note_id(take(self.camera, self.chosen))
        begun_s, cpu_s = time.monotonic(), time.process_time()
        try:
            begun()
            while time.monotonic() < begun_s + seconds:
                self._turn()
        except KeyboardInterrupt:
            self._ended = "Ctrl-C"
        except CameraEnded as ended:
            self._ended = str(ended)
        except CameraError as error:
            self._ended, self._is_fault = str(error), True
        return self._figures(time.monotonic() - begun_s, time.process_time() - cpu_s)

    def _turn(self) -> None:
        asked_s = time.monotonic()
        wait_s = ASK_S
        if self.chosen.is_triggered:
            self.camera.trigger()
            wait_s = self.chosen.settings.deadline_ms / 1000
        frame = self._frame_within(wait_s)
        if frame is None:
            if self.chosen.is_triggered:
                self._without_frame += 1
                self.camera.arm()
            return
        now_s = time.monotonic()
        taken_s = frame.captured.monotonic_ns / 1e9
        self._note_id(frame)
        self._taken_s.append(taken_s)
        self._latency_s.append(now_s - taken_s)
        self._incomplete += frame.pixels is None
        if self.chosen.is_triggered:
            self._trigger_s.append(now_s - asked_s)

    def _frame_within(self, wait_s: float) -> Frame | None:
        ends_at = time.monotonic() + wait_s
        while True:
            frame = self.camera.next_frame(min(ASK_S, wait_s))
            if frame is not None or time.monotonic() >= ends_at:
                return frame

    def _note_id(self, frame: Frame) -> None:
        previous, self._last_id = self._last_id, frame.frame_id
        ids = self.camera.frame_ids
        self._has_ids = ids is not None and frame.frame_id is not None
        if ids is None or frame.frame_id is None or previous is None:
            return
        unseen = missed(previous, frame.frame_id, ids)
        self._recounts += unseen is None
        self._twice += unseen == -1
        self._missed += max(0, unseen or 0)

    def _figures(self, seconds: float, cpu_s: float) -> Figures:
        frames = len(self._taken_s)
        intervals = [later - earlier for earlier, later in pairwise(self._taken_s)]
        return Figures(
            seconds=round(seconds, 3),
            frames=frames,
            incomplete=self._incomplete,
            missed=self._missed if self._has_ids else None,
            recounts=self._recounts,
            twice=self._twice,
            per_second=round(frames / seconds, 3) if frames else None,
            interval_ms=Spread.of(intervals),
            jitter_ms=round(1000 * float(np.std(intervals)), 3) if intervals else None,
            latency_ms=Spread.of(self._latency_s),
            trigger_to_frame_ms=Spread.of(self._trigger_s),
            without_frame=self._without_frame,
            cpu_ms_per_frame=round(1000 * cpu_s / frames, 3) if frames else None,
            ended=self._ended,
            is_fault=self._is_fault,
        )
