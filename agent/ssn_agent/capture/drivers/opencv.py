"""What the drivers on OpenCV have in common: a `cv2.VideoCapture` that is opened and read."""

import cv2
import numpy as np

from ssn_agent.capture.camera import Description, Frame, FrameIds, HostTime
from ssn_agent.errors import CameraError
from ssn_agent.frames.pixels import Pixels


class OpenCvCamera:
    """Such a source, open or closed."""

    waits = False
    silence_limit_s: float | None = None
    frame_ids: FrameIds | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._capture: cv2.VideoCapture | None = None

    def _adopt(self, capture: cv2.VideoCapture, remedy: str) -> cv2.VideoCapture:
        if not capture.isOpened():
            capture.release()
            msg = f"{self._name}: does not open; {remedy}"
            raise CameraError(msg)
        self._capture = capture
        return capture

    def _opened(self) -> cv2.VideoCapture:
        if self._capture is None:
            msg = f"{self._name}: is not open"
            raise CameraError(msg)
        return self._capture

    def _retrieved(self) -> Pixels:
        """Return the picture that was grabbed, as gray or RGB.

        OpenCV gives BGR. It is turned here, on the camera's own core, and not passed on as BGR8:
        inference, which all cameras share, would take four times as long for it (into memory that
        is new each time), where the whole picture is judged.
        """
        arrived, pixels = self._opened().retrieve()
        if not arrived:
            msg = f"{self._name}: a frame cannot be decoded"
            raise CameraError(msg)
        if pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] != 3):
            msg = f"{self._name}: gives {pixels.dtype} {pixels.shape}; set it to 8-bit gray or RGB"
            raise CameraError(msg)
        if pixels.ndim == 3:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        return pixels.astype(np.uint8, copy=False)

    def describe(self) -> Description:
        """Say what the source says of its pictures. Raises CameraError."""
        capture = self._opened()
        fps = capture.get(cv2.CAP_PROP_FPS)
        return Description(
            model=self._name,
            version=f"OpenCV {cv2.__version__}, {capture.getBackendName()}",
            pixel_format="RGB8",
            width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            fps=fps if fps > 0 else None,
            triggers=("free", "software"),
            settings=self._told(capture),
        )

    def _told(self, capture: cv2.VideoCapture) -> dict[str, str]:
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        return {"fourcc": codec.to_bytes(4, "little").decode("ascii", "replace")}

    def close(self) -> None:
        """Release the handle: OpenCV's never recovers after a failure."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class LiveCamera(OpenCvCamera):
    """A source that sends at its own rate, asked or not, and cannot be triggered.

    The frame of a trigger is the first one taken after it. What nobody asked for is read and
    swallowed, so that none of it waits: the source sets the pace.
    """

    def __init__(self, name: str, *, is_triggered: bool) -> None:
        super().__init__(name)
        self._is_triggered = is_triggered
        self._is_asked = False
        self._since_ns = 0
        self._last_read_ns = 0

    def arm(self) -> None:
        """Let what was taken before this be swallowed."""
        self._since_ns = HostTime.now().monotonic_ns
        self._is_asked = False

    def trigger(self) -> None:
        """Let the first frame that is taken from now on through."""
        self.arm()
        self._is_asked = True

    def next_frame(self, wait_s: float) -> Frame | None:
        """Read the next frame; None where it was taken too early, or nobody asked for it.

        Raises CameraError where the source has stopped answering.
        """
        del wait_s  # a read takes what it takes, up to `frame_limit_s`
        self._grab()
        read = HostTime.now()
        last_read_ns, self._last_read_ns = self._last_read_ns, read.monotonic_ns
        age_ns = self._age_ns(read)
        if age_ns is None:
            return None
        captured = read.earlier(age_ns)
        # Without a clock a frame may have waited to be read, yet not for longer than its reader.
        proven_ns = captured.monotonic_ns if self._has_clock else last_read_ns
        if self._is_triggered and (not self._is_asked or proven_ns < self._since_ns):
            return None
        if captured.monotonic_ns < self._since_ns:
            return None
        self._is_asked = False
        return Frame(self._retrieved(), captured=captured)

    def _grab(self) -> None:
        """Wait for the next frame. Raises CameraError."""
        raise NotImplementedError

    @property
    def _has_clock(self) -> bool:
        """Say whether the frame that was grabbed says when it was taken."""
        raise NotImplementedError

    def _age_ns(self, read: HostTime) -> int | None:
        """Return how long ago the frame that was read now was taken; None: it cannot be told."""
        raise NotImplementedError
