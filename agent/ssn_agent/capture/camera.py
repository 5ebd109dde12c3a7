"""The interface of every camera driver."""

from dataclasses import dataclass
from typing import Protocol

from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels


@dataclass(frozen=True)
class Frame:
    """A picture as the source gave it."""

    pixels: Pixels | None
    """uint8, [H, W] gray or a Bayer pattern, or [H, W, 3] RGB; None: it cannot be read."""
    part_id: str | None = None
    frame_id: int | None = None
    """The source's own count; None: it has none."""
    pixel_format: PixelFormat | None = None
    """None: Mono8 or RGB8, by the shape. A sensor's Bayer pattern is best given as it is: inference
    turns into colours what it judges, and no more."""


class Camera(Protocol):
    """A source of frames. Made closed; opened, read and closed by one thread."""

    open_limit_s: float
    """Within this `open` returns, and `close` too."""
    frame_limit_s: float
    """Within this `next_frame` returns. A driver that does not keep to these hangs: its process is
    replaced."""
    waits: bool
    """The source can wait until the last frame is judged (a file); a production line cannot."""

    def open(self) -> None:
        """Open the source. Raises CameraError where it is not there."""
        ...

    def next_frame(self) -> Frame:
        """Return the next frame, within `frame_limit_s`.

        Raises CameraError where the source stopped answering (close, then open it again) and
        CameraEnded where a file source has no more.
        """
        ...

    def close(self) -> None:
        """Release the source; harmless where it is closed."""
        ...
