"""Network cameras: RTSP and HTTP streams, through OpenCV's FFmpeg."""

import os
import time
from urllib.parse import quote

import cv2

from ssn_agent.capture.camera import HostTime
from ssn_agent.capture.drivers.opencv import LiveCamera
from ssn_agent.capture.drivers.stream_time import StreamTime
from ssn_agent.capture.settings import RtspSource
from ssn_agent.errors import CameraError

_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""OpenCV has no other way to say these. UDP loses packets silently. The rate is not measured when a
stream is opened: that takes a second, during which frames pile up."""
NAME_S = 10.0
"""To find a host's address where a name server does not answer: FFmpeg's time-out leaves it out."""
TRIES = 2
"""FFmpeg waits out its time-out once more where its decoder still held a frame."""


class RtspCamera(LiveCamera):
    """A network camera; frames come at its own rate."""

    def __init__(self, source: RtspSource) -> None:
        super().__init__(source.url, is_triggered=source.trigger == "software")
        self._source = source
        self._read_s = source.read_timeout_ms / 1000
        self.open_limit_s = source.open_timeout_ms / 1000 + NAME_S
        self.frame_limit_s = TRIES * self._read_s
        self._time = StreamTime()
        self._is_stalled = False

    def open(self) -> None:
        """Connect within the time-out of the settings. Raises CameraError."""
        os.environ.setdefault(_FFMPEG_OPTIONS, "rtsp_transport;tcp|fpsprobesize;0")
        options = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: self._source.open_timeout_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: self._source.read_timeout_ms,
            # Each further thread would hold a frame back.
            cv2.CAP_PROP_N_THREADS: 1,
        }
        flat = [number for option in options.items() for number in option]
        capture = cv2.VideoCapture(self._address(), cv2.CAP_FFMPEG, flat)
        self._adopt(capture, "check address, network and credentials")
        self._time = StreamTime()
        self._is_stalled = False

    def _address(self) -> str:
        """Return the URL with the credentials in it, as FFmpeg wants them."""
        source = self._source
        if source.username is None:
            return source.url
        password = "" if source.password is None else source.password.get_secret_value()
        credentials = f"{quote(source.username, safe='')}:{quote(password, safe='')}"
        return source.url.replace("://", f"://{credentials}@", 1)

    def _grab(self) -> None:
        capture = self._opened()
        began_s = time.monotonic()
        # The decoder gives the last frame that it holds after the time-out: then none follows.
        if self._is_stalled or not capture.grab():
            msg = (
                f"{self._name}: no frame within {self._source.read_timeout_ms} ms, or its end; "
                "check camera and network"
            )
            raise CameraError(msg)
        self._is_stalled = time.monotonic() - began_s >= self._read_s

    @property
    def _has_clock(self) -> bool:
        return self._time.is_believed

    def _age_ns(self, read: HostTime) -> int | None:
        stamp_ns = int(self._opened().get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        age_ns = self._time.age(stamp_ns, read.monotonic_ns)
        if self._time.falls_behind:
            msg = (
                f"{self._name}: frames come ever later than they are taken; it is opened again. "
                "Lower the camera's rate or resolution if this comes back"
            )
            raise CameraError(msg)
        return None if age_ns is None else age_ns + self._source.latency_ms * 1_000_000

    def _told(self, capture: cv2.VideoCapture) -> dict[str, str]:
        clock = "the stream's clock" if self._has_clock else "when it was read"
        return {**super()._told(capture), "time of a frame": clock}
