"""Settings of the sources that parts come from: cameras, files, other programs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ssn_agent.section import Secret, Section

Bind = Annotated[
    str, Field(pattern=r"^(tcp://[A-Za-z0-9.*-]+:[1-9][0-9]{0,4}|ipc:///.+)$", max_length=107)
]
"""A ZeroMQ address to listen at."""
Rate = Annotated[float, Field(gt=0, le=1000)]
"""Frames a second."""
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$")]
"""Of a feature, by GenICam's Standard Features Naming Convention or the vendor's manual."""


class Region(Section):
    """A rectangle of an image, in pixels."""

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


class CameraSource(Section):
    """What all sources have in common that are asked for frames."""

    trigger: Literal["free", "software"] = "free"
    """free: every frame is a part. software: a part is what another program announces, by MQTT or
    ZeroMQ; each trigger takes one frame."""
    trigger_bind: Bind | None = None
    """Where triggers over ZeroMQ are taken (docs/zeromq.md); None: they come by MQTT alone."""

    @field_validator("trigger_bind")
    @classmethod
    def _port_exists(cls, value: str | None) -> str | None:
        return None if value is None else checked_bind(value)

    @model_validator(mode="after")
    def _listens_for_triggers(self) -> "CameraSource":
        if self.trigger_bind is not None and self.trigger != "software":
            raise ValueError('trigger_bind is set but nothing listens; set trigger = "software"')
        return self


class FolderSource(CameraSource):
    """The images of a folder and its subfolders."""

    kind: Literal["folder"] = "folder"
    path: Path
    watch: bool = False
    """False: those that are there, in the order of their names. True: those that come, in the order
    in which they were finished, as line cameras drop them by FTP."""
    fps: Rate | None = None
    """None: the next image as soon as the last one is judged, for a file can wait."""
    loop: bool = False

    @model_validator(mode="after")
    def _watches_or_reads(self) -> "FolderSource":
        if self.watch and (self.loop or self.fps is not None):
            raise ValueError("a watched folder gives each image once, when it comes: no fps, loop")
        if self.watch and self.trigger == "software":
            raise ValueError(
                "which image of a watched folder belongs to which trigger, nobody can tell: each "
                'is a part by itself; set trigger = "free"'
            )
        return self


class VideoSource(CameraSource):
    """A video file."""

    kind: Literal["video"] = "video"
    path: Path
    fps: Rate | None = None
    """None: the next frame as soon as the last one is judged."""
    loop: bool = False


class RtspSource(CameraSource):
    """A network camera."""

    kind: Literal["rtsp"] = "rtsp"
    url: Annotated[str, Field(pattern=r"^(rtsps?|https?)://")]
    username: str | None = None
    password: Secret | None = None
    open_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 3000
    read_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 2000
    latency_ms: Annotated[int, Field(ge=0, le=10_000)] = 0
    """From a frame's exposure to its coming, at the least: encoder and network, which no clock
    tells. A frame is taken to be older by this."""

    @field_validator("url")
    @classmethod
    def _names_no_secret(cls, value: str) -> str:
        if "@" in urlsplit(value).netloc:
            msg = "holds credentials, and is shown in logs; move them to username and password"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _password_has_its_user(self) -> "RtspSource":
        if self.password is not None and self.username is None:
            msg = "password is set but username is not; set both"
            raise ValueError(msg)
        return self


class V4l2Source(CameraSource):
    """A camera of the kernel's, such as a USB camera."""

    kind: Literal["v4l2"] = "v4l2"
    device: Annotated[str, Field(pattern=r"^/dev/")] = "/dev/video0"
    width: Annotated[int, Field(ge=16, le=16384)] | None = None
    height: Annotated[int, Field(ge=16, le=16384)] | None = None
    fps: Rate | None = None
    fourcc: Annotated[str, Field(pattern=r"^[A-Z0-9]{4}$")] | None = None
    """How the camera sends its pixels, such as YUYV, GREY or MJPG; None: as OpenCV chooses."""

    @model_validator(mode="after")
    def _size_is_whole(self) -> "V4l2Source":
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height take effect together; set both or neither")
        return self


class LineSource(CameraSource):
    """A drawn production line, for a demonstration without a camera."""

    kind: Literal["line"] = "line"
    seed: Annotated[int, Field(ge=0)] = 0
    defect_rate: Annotated[float, Field(ge=0, le=1)] = 0.15
    fps: Annotated[float, Field(gt=0, le=100)] = 8.0
    parts: Annotated[int, Field(ge=1)] | None = None
    """How many parts to draw; None: until the agent is stopped."""


class GenICamSource(CameraSource):
    """What cameras with a GenICam description have in common; every value is read back."""

    trigger: Literal["free", "software", "line"] = "free"  # type: ignore[assignment]  # one more
    """line: a signal at the camera's own input exposes a frame, and every frame is a part."""
    trigger_line: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] = "Line0"
    trigger_activation: Literal["RisingEdge", "FallingEdge", "AnyEdge"] = "RisingEdge"
    pixel_format: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] | None = None
    """By GenICam's names, such as Mono8 or BayerRG8; None: as the camera stands."""
    sensor_region: Region | None = None
    """What the camera reads out and sends; None: as it stands. `roi` cuts out of that."""
    exposure_us: Annotated[float, Field(gt=0, le=60e6)] | None = None
    """With it automatic exposure is switched off; None: as the camera stands."""
    gain: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """In the camera's own unit, dB with most; with it automatic gain is switched off."""
    features: Annotated[dict[FeatureName, bool | int | float | str], Field(default_factory=dict)]
    """Any other feature, set in this order before acquisition begins."""
    silence_ms: Annotated[int, Field(ge=50, le=600_000)] = 2000
    """A free-running camera that gives no frame for this long is faulty, and opened again."""


class GenTlSource(GenICamSource):
    """A camera of any vendor, through the vendor's GenTL producer."""

    kind: Literal["gentl"] = "gentl"
    producer: Path
    """The vendor's `.cti` file."""
    device: str | None = None
    """Serial number, user-defined name or id of the device; None: the only one that there is."""


class GigeSource(GenICamSource):
    """A GigE Vision camera, without a vendor's software."""

    kind: Literal["gige"] = "gige"
    device: str
    """IP address, serial number or user-defined name."""
    packet_size: Annotated[int, Field(ge=220, le=16000)] | None = None
    """Bytes of a stream packet; None: the largest that reaches this machine. 9000 bytes and more
    want jumbo frames along the whole way."""


class BaslerSource(GenICamSource):
    """A Basler camera, through pylon."""

    kind: Literal["basler"] = "basler"
    device: str | None = None
    """Serial number or user-defined name; None: the only one that there is."""


class ZeroMqSource(Section):
    """Parts that other programs send: docs/zeromq.md has the format."""

    kind: Literal["zeromq"] = "zeromq"
    bind: Bind = "tcp://127.0.0.1:5560"
    """Where to listen; whoever reaches an address that is not of this machine can send parts."""

    @field_validator("bind")
    @classmethod
    def _port_exists(cls, value: str) -> str:
        return checked_bind(value)


AskedSource = (
    FolderSource
    | VideoSource
    | RtspSource
    | V4l2Source
    | LineSource
    | GenTlSource
    | GigeSource
    | BaslerSource
)
"""Sources that a driver asks for frames (`capture.drivers.choice`)."""
Source = Annotated[AskedSource | ZeroMqSource, Field(discriminator="kind")]
SOURCES = (*get_args(AskedSource), ZeroMqSource)


def takes_triggers(source: Source) -> bool:
    """Say whether other programs announce a source's parts, by MQTT among others."""
    return isinstance(source, ZeroMqSource) or source.trigger == "software"


def gives_stored_pictures(source: Source) -> bool:
    """Say whether a source's pictures were taken long ago, so that two of them may be the same."""
    return isinstance(source, VideoSource) or (
        isinstance(source, FolderSource) and not source.watch
    )


def checked_bind(value: str) -> str:
    """Return an address to listen at. Raises ValueError where its port is none."""
    if value.startswith("tcp:") and int(value.rpartition(":")[2]) > 65535:
        raise ValueError("ports go up to 65535")
    return value


def check_binds(sources: Iterable[Source]) -> None:
    """Raise ValueError where two inputs bind one address: over `ipc` the second would steal it."""
    given = [s.bind if isinstance(s, ZeroMqSource) else s.trigger_bind for s in sources]
    binds = [bind for bind in given if bind is not None]
    if len(set(binds)) < len(binds):
        raise ValueError("two cameras bind the same address; give each source.bind its own")
