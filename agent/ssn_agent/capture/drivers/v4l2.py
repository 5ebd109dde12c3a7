"""Cameras of the kernel's, such as USB cameras, through OpenCV's V4L2."""

import os
from contextlib import suppress
from pathlib import Path

import cv2

from ssn_agent.capture.camera import Found, HostTime
from ssn_agent.capture.drivers.opencv import LiveCamera
from ssn_agent.capture.settings import V4l2Source
from ssn_agent.errors import CameraError

_WAIT_OPTION = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
WAIT_S = 3
"""For a frame: OpenCV's own time-out, in whole seconds; of itself it would wait for 10."""
OPEN_S = 12.0
"""A camera is set anew for each value."""
OLDEST_S = 10.0
"""A time stamp further back is not by this machine's clock."""
DEVICES = Path("/sys/class/video4linux")
DEEP = ("Y10 ", "Y12 ", "Y16 ")


class V4l2Camera(LiveCamera):
    """A camera of the kernel's."""

    open_limit_s = OPEN_S
    frame_limit_s = WAIT_S + 1.0

    def __init__(self, source: V4l2Source) -> None:
        super().__init__(source.device, is_triggered=source.trigger == "software")
        self._source = source
        self._stamp_ns: int | None = None

    def open(self) -> None:
        """Open the device, set what the settings name and read it back. Raises CameraError."""
        os.environ[_WAIT_OPTION] = str(WAIT_S)  # a longer one would break `frame_limit_s`
        capture = self._adopt(
            cv2.VideoCapture(self._name, cv2.CAP_V4L2), "is it plugged in, and used by nobody else?"
        )
        try:
            self._set(capture)
        except CameraError:
            self.close()
            raise

    def _set(self, capture: cv2.VideoCapture) -> None:
        source = self._source
        # The format first, for sizes and rates depend on it. Width and height take effect together:
        # nothing is read back before all is set.
        wanted = {
            cv2.CAP_PROP_FOURCC: None if source.fourcc is None else _number(source.fourcc),
            cv2.CAP_PROP_FRAME_WIDTH: source.width,
            cv2.CAP_PROP_FRAME_HEIGHT: source.height,
            cv2.CAP_PROP_FPS: source.fps,
        }
        for prop, value in wanted.items():
            if value is not None:
                capture.set(prop, value)
        told = self._told(capture)
        names = ("fourcc", "width", "height", "fps")
        for (prop, value), name in zip(wanted.items(), names, strict=True):
            if value is not None and abs(capture.get(prop) - value) > 0.5:
                does = told["fourcc"] if name == "fourcc" else f"{capture.get(prop):g}"
                asked = getattr(source, name)
                msg = (
                    f"{self._name}: asked for {name} {asked}, the camera does {does}; set what it "
                    "can do (v4l2-ctl --list-formats-ext says what)"
                )
                raise CameraError(msg)
        if told["fourcc"] in DEEP:
            msg = (
                f"{self._name}: gives more than 8 bits a value ({told['fourcc'].strip()}), which "
                "OpenCV would cut to 8; set source.fourcc to a format of 8 bits, such as GREY"
            )
            raise CameraError(msg)

    def _grab(self) -> None:
        capture = self._opened()
        if not capture.grab():
            msg = f"{self._name}: no frame; was it unplugged?"
            raise CameraError(msg)
        # The kernel's, by the monotonic clock; a driver that has none gives 0.
        self._stamp_ns = int(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) or None

    @property
    def _has_clock(self) -> bool:
        return self._stamp_ns is not None

    def _age_ns(self, read: HostTime) -> int:
        if self._stamp_ns is not None:
            age_ns = read.monotonic_ns - self._stamp_ns
            if 0 <= age_ns <= OLDEST_S * 1e9:
                return age_ns
            self._stamp_ns = None
        return 0


def find(devices: Path = DEVICES) -> list[Found]:
    """Return the kernel's cameras; a camera's further nodes, which give no pictures, are left out.

    `devices`: where the kernel lists them.
    """
    found = []
    for node in sorted(devices.glob("video*"), key=lambda path: (len(path.name), path.name)):
        with suppress(OSError):  # unplugged meanwhile
            if (node / "index").read_text().strip() == "0":
                name = (node / "name").read_text().strip()
                found.append(Found("v4l2", name, {"device": f"/dev/{node.name}"}))
    return found


def _number(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode(), "little")
