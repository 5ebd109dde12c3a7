"""Cameras of the kernel's: OpenCV's class is replaced, for no machine of ours has a device."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_agent.capture.drivers.v4l2 import V4l2Camera, find
from ssn_agent.capture.settings import V4l2Source
from ssn_agent.errors import CameraError


def number(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode(), "little")


class Device:
    """A USB camera behind OpenCV's V4L2, as its source has it: sizes are set in pairs."""

    def __init__(self, *, fourcc: str = "YUYV", stamps: bool = True) -> None:
        self.values = {
            cv2.CAP_PROP_FOURCC: float(number(fourcc)),
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
        }
        self.order: list[int] = []
        self.stamps = stamps
        self.buffered_at: list[float] = []
        """When what is in its buffers was taken, by the monotonic clock."""
        self.plugged = True
        self.opened = 0
        self._size: dict[int, float] = {}
        self._stamp_ms = 0.0

    def __call__(self, name: str, api: int) -> "Device":
        assert (name, api) == ("/dev/video0", cv2.CAP_V4L2)
        self.opened += 1
        return self

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return self.plugged

    def set(self, prop: int, value: float) -> bool:
        self.order.append(prop)
        if prop in {cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT}:
            self._size[prop] = min(value, 1920)
            if len(self._size) == 2:
                self.values |= self._size
                self._size = {}
        elif prop == cv2.CAP_PROP_FPS:
            self.values[prop] = min(value, 60)
        elif value in {number("YUYV"), number("MJPG")}:
            self.values[prop] = value
        return True

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return self._stamp_ms
        return self.values[prop]

    def grab(self) -> bool:
        taken_s = self.buffered_at.pop(0) if self.buffered_at else time.monotonic()
        self._stamp_ms = taken_s * 1000 if self.stamps else 0.0
        return self.plugged

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((4, 6, 3), (0, 0, 255), np.uint8)

    def getBackendName(self) -> str:  # noqa: N802 -- OpenCV's name
        return "V4L2"

    def release(self) -> None:
        self._size = {}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr("cv2.VideoCapture", made)
    return made


def test_a_camera_that_is_not_plugged_in_is_named() -> None:
    with pytest.raises(CameraError, match=r"/dev/video97.*plugged in"):
        V4l2Camera(V4l2Source(device="/dev/video97")).open()


def test_cameras_are_found_by_the_first_of_their_nodes_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    for node, index, name in (("video0", 0, "USB A"), ("video1", 1, "USB A"), ("video10", 0, "B")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "index").write_text(f"{index}\n")
        (tmp_path / node / "name").write_text(f"{name}\n")
    (tmp_path / "video2").mkdir()  # unplugged meanwhile
    found = find(tmp_path)
    assert [(camera.name, camera.source["device"]) for camera in found] == [
        ("USB A", "/dev/video0"),
        ("B", "/dev/video10"),
    ]
    assert find(tmp_path / "none") == []


def test_the_format_is_set_before_the_size_and_the_rate_and_all_are_read_back(
    device: Device,
) -> None:
    source = V4l2Source(width=1280, height=720, fps=60, fourcc="MJPG")
    with closing(V4l2Camera(source)) as camera:
        camera.open()
        assert device.order[0] == cv2.CAP_PROP_FOURCC
        told = camera.describe()
    assert (told.width, told.height, told.fps) == (1280, 720, 60)
    assert told.settings["fourcc"] == "MJPG"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 4096, "height": 480}, r"width 4096.*does 1920"),
        ({"fps": 120}, r"fps 120.*does 60"),
        ({"fourcc": "GREY"}, r"fourcc GREY.*does YUYV"),
    ],
)
def test_what_the_camera_cannot_do_is_said_with_what_it_does(
    device: Device, settings: dict[str, Any], said: str
) -> None:
    del device
    with pytest.raises(CameraError, match=said):
        V4l2Camera(V4l2Source(**settings)).open()


def test_a_frame_is_waited_for_within_the_driver_s_limit_whatever_the_environment_says(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    del device
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "60")
    camera = V4l2Camera(V4l2Source())
    camera.open()
    assert int(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"]) < camera.frame_limit_s


def test_a_camera_of_more_than_eight_bits_is_refused_and_not_cut(device: Device) -> None:
    device.values[cv2.CAP_PROP_FOURCC] = number("Y16 ")
    with pytest.raises(CameraError, match=r"Y16.*8 bits"):
        V4l2Camera(V4l2Source()).open()


def test_a_width_without_a_height_is_refused_by_the_settings() -> None:
    with pytest.raises(ValueError, match="both or neither"):
        V4l2Source(width=640)


def test_red_is_red_and_a_frame_has_the_time_of_the_kernel(device: Device) -> None:
    with closing(V4l2Camera(V4l2Source())) as camera:
        camera.open()
        camera.arm()
        taken_s = time.monotonic()
        device.buffered_at = [taken_s - 0.5, taken_s]
        time.sleep(0.05)
        assert camera.next_frame(0.5) is None  # of before it was armed
        frame = camera.next_frame(0.5)
        assert frame is not None
        assert frame.pixels is not None
        assert tuple(frame.pixels[0, 0]) == (255, 0, 0)
        assert abs(frame.captured.monotonic_ns / 1e9 - taken_s) < 1e-3


def test_the_frame_of_a_trigger_is_the_first_one_taken_after_it(device: Device) -> None:
    with closing(V4l2Camera(V4l2Source(trigger="software"))) as camera:
        camera.open()
        camera.arm()
        assert camera.next_frame(0.005) is None
        before_s = time.monotonic()
        camera.trigger()
        device.buffered_at = [before_s - 0.1, before_s - 0.05]
        assert [camera.next_frame(0.005) for _ in range(2)] == [None, None]
        frame = camera.next_frame(0.005)
        assert frame is not None
        assert frame.captured.monotonic_ns / 1e9 > before_s
        assert camera.next_frame(0.005) is None


@pytest.mark.parametrize("since_s", [None, -3600.0, 3600.0])
def test_without_a_time_of_this_machine_a_frame_that_may_have_waited_is_no_triggers(
    device: Device, since_s: float | None
) -> None:
    device.stamps = since_s is not None
    with closing(V4l2Camera(V4l2Source(trigger="software"))) as camera:
        camera.open()
        camera.arm()
        device.buffered_at = [time.monotonic() + (since_s or 0)] * 9
        camera.next_frame(0.005)
        camera.trigger()
        assert camera.next_frame(0.005) is None
        assert camera.next_frame(0.005) is not None


def test_a_camera_that_is_unplugged_is_told_and_taken_up_again(device: Device) -> None:
    with closing(V4l2Camera(V4l2Source())) as camera:
        camera.open()
        camera.arm()
        assert camera.next_frame(0.5) is not None
        device.plugged = False
        with pytest.raises(CameraError, match=r"/dev/video0.*unplugged"):
            camera.next_frame(0.5)
        camera.close()
        with pytest.raises(CameraError, match="plugged in"):
            camera.open()
        device.plugged = True
        camera.open()
        camera.arm()
        assert camera.next_frame(0.5) is not None
    assert device.opened == 3
