"""A camera that plays a script: the driver interface, without a camera."""

import threading
import time

from ssn_agent.capture.camera import Description, Frame, FrameIds
from ssn_agent.errors import CameraEnded, CameraError

Step = Frame | CameraError | None
"""What `next_frame` gives next; None: nothing has come within its wait."""


class Script:
    """Gives what the script says, step by step, then ends."""

    open_limit_s = 1.0
    frame_limit_s = 1.0
    silence_limit_s: float | None = None
    waits = False
    frame_ids: FrameIds | None = FrameIds()

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.opened = 0
        self.armed = 0
        self.triggered = 0
        self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def arm(self) -> None:
        self.armed += 1

    def trigger(self) -> None:
        self.triggered += 1

    def next_frame(self, wait_s: float) -> Frame | None:
        del wait_s
        step = self._steps.pop(0) if self._steps else CameraEnded("came to its end")
        if isinstance(step, CameraError):
            raise step
        return step

    def describe(self) -> Description:
        return Description(model="a script")

    def close(self) -> None:
        self.closed += 1


class Asked(Script):
    """Gives what the script says, one step for each trigger, when it is let go."""

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self._steps = list(steps)
        self._under_way: list[Step] = []
        self.gate = threading.Event()
        """Set: what a trigger asked for comes at once."""
        self.gate.set()
        self.hangs = threading.Event()
        """Set: `next_frame` does not return."""

    def arm(self) -> None:
        super().arm()
        self._under_way.clear()

    def trigger(self) -> None:
        super().trigger()
        self._under_way.append(self._steps.pop(0))

    def next_frame(self, wait_s: float) -> Frame | None:
        while self.hangs.is_set():
            time.sleep(wait_s)
        if not (self._under_way and self.gate.wait(wait_s)):
            time.sleep(wait_s)
            return None
        step = self._under_way.pop(0)
        if isinstance(step, CameraError):
            raise step
        return step
