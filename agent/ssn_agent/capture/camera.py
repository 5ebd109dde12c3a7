"""The interface of every camera driver."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels


@dataclass(frozen=True)
class HostTime:
    """A moment by both clocks of this machine, in nanoseconds."""

    monotonic_ns: int
    """CLOCK_MONOTONIC: for durations and deadlines."""
    utc_ns: int
    """Since 1970, UTC: for people."""

    @classmethod
    def now(cls) -> "HostTime":
        """Return the present moment."""
        return cls(time.monotonic_ns(), time.time_ns())

    def earlier(self, by_ns: int) -> "HostTime":
        """Return the moment so much earlier."""
        return HostTime(self.monotonic_ns - by_ns, self.utc_ns - by_ns)


@dataclass(frozen=True)
class FrameIds:
    """How a source counts its frames: from `first` to `last`, and then from `first` again."""

    first: int = 0
    last: int = 2**63 - 1


@dataclass(frozen=True)
class Frame:
    """A picture as the source gave it."""

    pixels: Pixels | None
    """uint8, [H, W] gray or a Bayer pattern, or [H, W, C] in the order that the format says; None:
    it came and cannot be judged. The frame's own: what the driver gives later leaves it alone."""
    part_id: str | None = None
    frame_id: int | None = None
    """The source's own count; None: it has none."""
    pixel_format: PixelFormat | None = None
    """None: Mono8 or RGB8, by the shape. A sensor's Bayer pattern is best given as it is: inference
    turns into colours what it judges, and no more."""
    device_timestamp_ns: int | None = None
    """By the device's own clock, whose zero is its own; None: it has none."""
    captured: HostTime = field(default_factory=HostTime.now)
    """When it was taken, as well as this machine can tell: not when it was read from a backlog."""
    problem: str = ""
    """Why it cannot be judged, where it came incomplete or failed; empty beside pixels."""
    trigger_id: str | None = None
    """What tells it from every other, over restarts: the journal keeps it; None: nothing does."""


@dataclass(frozen=True)
class Description:
    """What a camera that is open says of itself."""

    vendor: str = ""
    model: str = ""
    serial: str = ""
    version: str = ""
    """Of its firmware, or of the software that serves it."""
    pixel_format: str = ""
    width: int = 0
    height: int = 0
    fps: float | None = None
    """At which it says that it runs; None: it does not say."""
    has_frame_ids: bool = False
    has_device_timestamps: bool = False
    triggers: tuple[str, ...] = ("free",)
    """Those of the settings' `trigger` that it can do."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What else helps to set it: a feature's name, its value and range, for people."""


class Camera(Protocol):
    """A source of frames. Made closed; opened, armed, asked, triggered and closed by one thread.

    `open`, `arm`, then `next_frame` again and again; where parts are announced (`trigger =
    "software"`), `trigger` before each frame that is wanted.
    """

    open_limit_s: float
    """Within this `open`, `arm` and `close` each return."""
    frame_limit_s: float
    """Within this beyond its `wait_s` `next_frame` returns, and `trigger` does. A driver that does
    not keep to these hangs: its process is replaced."""
    silence_limit_s: float | None
    """A free-running source that gives nothing for longer is faulty; None: silence is normal."""
    waits: bool
    """The source can wait until the last frame is judged (a file); a production line cannot."""
    frame_ids: FrameIds | None
    """How its frame ids count on; None: a gap in them says nothing."""

    def open(self) -> None:
        """Open the source, set and read back what the settings say. Raises CameraError."""
        ...

    def arm(self) -> None:
        """Begin to acquire, afresh: what was exposed before this never comes after it.

        Raises CameraError.
        """
        ...

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next frame; None where none has come within `wait_s`.

        A source that cannot be asked that way may take up to `frame_limit_s` longer. Raises
        CameraError where it has stopped answering (close, then open it again) and CameraEnded where
        a file source has no more.
        """
        ...

    def trigger(self) -> None:
        """Ask for one frame: `next_frame` gives none that was exposed before. Raises CameraError.

        Only for `trigger = "software"`.
        """
        ...

    def describe(self) -> Description:
        """Say what it is, while it is open. Raises CameraError."""
        ...

    def close(self) -> None:
        """Release the source; harmless where it is closed, and whatever the device's state."""
        ...


@dataclass(frozen=True)
class Found:
    """A camera that a search came upon."""

    kind: str
    """Of the settings' `source.kind`."""
    name: str
    """Vendor, model and serial, for people."""
    source: Mapping[str, str]
    """The keys of the settings' `source` that name it, without `kind`."""
