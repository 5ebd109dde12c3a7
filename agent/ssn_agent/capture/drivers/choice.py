"""Which driver serves which kind of source."""

from collections.abc import Iterable

from ssn_agent.capture.camera import Camera
from ssn_agent.capture.settings import (
    AskedSource,
    BaslerSource,
    FolderSource,
    GenTlSource,
    GigeSource,
    LineSource,
    RtspSource,
    V4l2Source,
    VideoSource,
)


def make_camera(source: AskedSource, counted: Iterable[tuple[str, str]] = ()) -> Camera:
    """Return the driver for a source, closed. A driver is imported only where it is used.

    `counted`: the frames that were counted before, oldest first, by part id and trigger id.
    Raises CameraError where the software that it needs is not installed.
    """
    match source:
        case FolderSource(watch=True):
            from ssn_agent.capture.drivers.watched import WatchedFolder

            return WatchedFolder(source, counted)
        case FolderSource():
            from ssn_agent.capture.drivers.files import FolderCamera

            return FolderCamera(source)
        case VideoSource():
            from ssn_agent.capture.drivers.video import VideoCamera

            return VideoCamera(source)
        case RtspSource():
            from ssn_agent.capture.drivers.rtsp import RtspCamera

            return RtspCamera(source)
        case V4l2Source():
            from ssn_agent.capture.drivers.v4l2 import V4l2Camera

            return V4l2Camera(source)
        case LineSource():
            from ssn_agent.capture.drivers.drawn import DrawnCamera

            return DrawnCamera(source)
        case GenTlSource():
            from ssn_agent.capture.drivers.gentl import GenTlCamera

            return GenTlCamera(source)
        case GigeSource():
            from ssn_agent.capture.drivers.gige import GigeCamera

            return GigeCamera(source)
        case BaslerSource():
            from ssn_agent.capture.drivers.basler import BaslerCamera

            return BaslerCamera(source)
