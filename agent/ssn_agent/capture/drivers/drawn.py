"""The drawn production line as a camera, for a demonstration without one."""

from ssn_agent.capture.camera import Description, Frame, FrameIds
from ssn_agent.capture.drivers.asked import Asked
from ssn_agent.capture.drivers.pace import Pace
from ssn_agent.capture.settings import LineSource
from ssn_agent.demo.line import ProductionLine
from ssn_agent.errors import CameraEnded
from ssn_agent.frames.pixel_format import PixelFormat

DRAW_S = 1.0
"""Of one part, on a machine that has too much to do."""


def part_name(number: int) -> str:
    """Return the part id that the drawn line gives its parts; it does not tell good from bad."""
    return f"part-{number:06d}"


class DrawnCamera(Asked):
    """Parts drawn one after the other, at a fixed rate like a real line: it does not wait."""

    open_limit_s = 0.0
    silence_limit_s: float | None = None
    frame_ids: FrameIds | None = None
    waits = False

    def __init__(self, source: LineSource) -> None:
        super().__init__(is_triggered=source.trigger == "software", pace=Pace(source.fps))
        self._source = source
        self._line = ProductionLine(source.seed, source.defect_rate)
        self.frame_limit_s = DRAW_S
        self._number = 0

    def open(self) -> None:
        """Nothing to open; the line goes on where it stood."""

    def describe(self) -> Description:
        """Say that it is drawn."""
        return Description(
            model="drawn production line",
            pixel_format=PixelFormat.Mono8.name,
            fps=self._source.fps,
            triggers=("free", "software"),
        )

    def next_frame(self, wait_s: float) -> Frame | None:
        """Draw the next part; None: not yet. Raises CameraEnded after the last of the settings."""
        if self._number == self._source.parts:
            msg = f"the drawn line has shown its {self._number} parts"
            raise CameraEnded(msg)
        if not self._is_due(wait_s):
            return None
        part = self._line.part(self._number)
        self._number += 1
        return Frame(part.image, part_name(self._number - 1), self._number - 1)

    def close(self) -> None:
        """Nothing to release."""
