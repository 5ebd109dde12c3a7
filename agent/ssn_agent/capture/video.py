"""Video files, network cameras (RTSP, HTTP) and V4L2 cameras through OpenCV."""

import os
from urllib.parse import quote

import cv2
import numpy as np

from ssn_agent.capture.camera import Description, Frame, FrameIds
from ssn_agent.capture.pace import Pace
from ssn_agent.capture.settings import RtspSource, V4l2Source, VideoSource
from ssn_agent.errors import CameraEnded, CameraError

# UDP loses packets silently; OpenCV has no other way to say it.
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
FILE_S = 5.0
"""To open a video file or to decode a frame of it, over a network too."""
NAME_S = 10.0
"""To find a host's address where a name server does not answer: FFmpeg's time-out leaves it out."""
V4L2_S = 12.0
"""OpenCV gives up on a frame after 10 s."""


class _OpenCvCamera:
    """What the three have in common: a `cv2.VideoCapture` that is opened and read."""

    waits = False
    silence_limit_s: float | None = None
    frame_ids: FrameIds | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._capture: cv2.VideoCapture | None = None
        self._count = 0

    def _adopt(self, capture: cv2.VideoCapture, remedy: str) -> None:
        if not capture.isOpened():
            capture.release()
            msg = f"{self._name}: does not open; {remedy}"
            raise CameraError(msg)
        self._capture = capture

    def _read(self) -> Frame | None:
        if self._capture is None:
            msg = f"{self._name}: is not open"
            raise CameraError(msg)
        arrived, pixels = self._capture.read()
        if not arrived:
            return None
        if pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] != 3):
            msg = f"{self._name}: gives {pixels.dtype} {pixels.shape}; set it to 8-bit gray or RGB"
            raise CameraError(msg)
        self._count += 1
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return Frame(pixels.astype(np.uint8, copy=False))

    def arm(self) -> None:
        """Nothing is under way."""

    def trigger(self) -> None:
        """The next picture is the frame."""

    def describe(self) -> Description:
        """Say where the pictures come from."""
        return Description(model=self._name)

    def close(self) -> None:
        """Release the handle: OpenCV's never recovers after a failure."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class VideoCamera(_OpenCvCamera):
    """A video file, frame by frame."""

    open_limit_s = FILE_S

    def __init__(self, source: VideoSource) -> None:
        super().__init__(str(source.path))
        self._source = source
        self._pace = Pace(source.fps)
        self.frame_limit_s = self._pace.longest_wait_s + 2 * FILE_S
        self.waits = source.fps is None

    def open(self) -> None:
        """Open the file. Raises CameraError."""
        if not self._source.path.is_file():
            msg = f"{self._name}: no such file; check the camera's source.path"
            raise CameraError(msg)
        self._adopt(cv2.VideoCapture(self._name), "is it a video file?")
        self._count = 0

    def next_frame(self, wait_s: float) -> Frame:
        """Return the next frame. Raises CameraEnded after the last one."""
        del wait_s
        self._pace.wait()
        frame = self._read()
        if frame is None and self._source.loop and self._count:
            self.close()
            self.open()
            frame = self._read()
        if frame is None and not self._count:
            msg = f"{self._name}: holds no readable frame"
            raise CameraError(msg)
        if frame is None:
            msg = f"{self._name}: came to its end"
            raise CameraEnded(msg)
        return frame


class RtspCamera(_OpenCvCamera):
    """A network camera; frames come at its own rate."""

    def __init__(self, source: RtspSource) -> None:
        super().__init__(source.url)
        self._source = source
        self.open_limit_s = source.open_timeout_ms / 1000 + NAME_S
        self.frame_limit_s = source.read_timeout_ms / 1000

    def open(self) -> None:
        """Connect within the time-out of the settings. Raises CameraError."""
        os.environ.setdefault(_FFMPEG_OPTIONS, "rtsp_transport;tcp")
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            self._source.open_timeout_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            self._source.read_timeout_ms,
        ]
        capture = cv2.VideoCapture(self._address(), cv2.CAP_FFMPEG, limits)
        self._adopt(capture, "check address, network and credentials")

    def _address(self) -> str:
        """Return the URL with the credentials in it, as FFmpeg wants them."""
        source = self._source
        if source.username is None:
            return source.url
        password = "" if source.password is None else source.password.get_secret_value()
        credentials = f"{quote(source.username, safe='')}:{quote(password, safe='')}"
        return source.url.replace("://", f"://{credentials}@", 1)

    def next_frame(self, wait_s: float) -> Frame:
        """Return the next frame. Raises CameraError where none comes within the read time-out."""
        del wait_s
        frame = self._read()
        if frame is None:
            msg = f"{self._name}: no frame within {self._source.read_timeout_ms} ms"
            raise CameraError(msg)
        return frame


class V4l2Camera(_OpenCvCamera):
    """A camera of the kernel's."""

    open_limit_s = V4L2_S
    frame_limit_s = V4L2_S

    def __init__(self, source: V4l2Source) -> None:
        super().__init__(source.device)
        self._source = source

    def open(self) -> None:
        """Open the device and set what the settings name. Raises CameraError."""
        self._adopt(cv2.VideoCapture(self._name, cv2.CAP_V4L2), "is it plugged in?")
        wanted = {
            cv2.CAP_PROP_FRAME_WIDTH: self._source.width,
            cv2.CAP_PROP_FRAME_HEIGHT: self._source.height,
            cv2.CAP_PROP_FPS: self._source.fps,
        }
        for prop, value in wanted.items():
            if value is None or self._capture is None:
                continue
            self._capture.set(prop, value)
            got = self._capture.get(prop)
            if abs(got - value) > 0.5:
                self.close()
                msg = f"{self._name}: asked for {value}, the camera does {got}; set what it can do"
                raise CameraError(msg)

    def next_frame(self, wait_s: float) -> Frame:
        """Return the next frame. Raises CameraError where the device stopped answering."""
        del wait_s
        frame = self._read()
        if frame is None:
            msg = f"{self._name}: no frame; was it unplugged?"
            raise CameraError(msg)
        return frame
