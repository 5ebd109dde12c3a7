"""Video files, through OpenCV."""

import cv2

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.drivers.asked import Asked
from ssn_agent.capture.drivers.opencv import OpenCvCamera
from ssn_agent.capture.drivers.pace import Pace
from ssn_agent.capture.settings import VideoSource
from ssn_agent.errors import CameraEnded, CameraError

FILE_S = 5.0
"""To open a video file or to decode a frame of it, over a network too."""


class VideoCamera(Asked, OpenCvCamera):
    """A video file, frame by frame."""

    open_limit_s = FILE_S
    frame_limit_s = 2 * FILE_S

    def __init__(self, source: VideoSource) -> None:
        OpenCvCamera.__init__(self, str(source.path))
        Asked.__init__(self, is_triggered=source.trigger == "software", pace=Pace(source.fps))
        self._source = source
        self._count = 0
        self.waits = source.fps is None

    def open(self) -> None:
        """Open the file. Raises CameraError."""
        if not self._source.path.is_file():
            msg = f"{self._name}: no such file; check the camera's source.path"
            raise CameraError(msg)
        self._adopt(cv2.VideoCapture(self._name), "is it a video file?")
        self._count = 0

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next frame; None: not yet. Raises CameraEnded after the last one."""
        self._opened()
        if not self._is_due(wait_s):
            return None
        arrived = self._opened().grab()
        if not arrived and self._source.loop and self._count:
            self.close()
            self.open()
            arrived = self._opened().grab()
        if not arrived and not self._count:
            msg = f"{self._name}: holds no readable frame"
            raise CameraError(msg)
        if not arrived:
            msg = f"{self._name}: came to its end"
            raise CameraEnded(msg)
        self._count += 1
        return Frame(self._retrieved())
