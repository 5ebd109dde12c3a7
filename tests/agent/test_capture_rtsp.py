"""Network cameras: true times, triggers that get their own frames, and faults that pass."""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.drivers.rtsp import RtspCamera
from ssn_agent.capture.settings import RtspSource
from ssn_agent.errors import CameraError
from ssn_contract.messages import InvalidReason
from support.capture import capture_process, connected
from support.judging import Judge
from support.rtsp import FPS, NetworkCamera, exposed_ms, network_camera
from support.waiting import wait_until

WAY_MS = 140
"""From a frame's exposure to its reading, at the least: encoder, server, and a decoder that holds
one frame or two, by the connection. Measured: 42 to 95."""
APART_MS = 100
"""Times of a backlog may differ by this where a machine is busy; frames wait in it up to 1 s."""
BUSY_MS = 400
"""A frame that has no time but its reading's may be read late on a machine that is busy."""
LATENCY_MS = 100


@pytest.fixture(scope="module")
def served() -> Iterator[NetworkCamera]:
    with network_camera() as made:
        yield made


@pytest.fixture
def network(served: NetworkCamera) -> NetworkCamera:
    """Return a camera that runs, whatever the test before has done to it."""
    served.thaw()
    if not served.is_running:
        served.start()
    return served


def next_of(camera: RtspCamera) -> Frame:
    """Return the next frame, past what is swallowed."""
    while True:
        frame = camera.next_frame(0.5)
        if frame is not None:
            return frame


def age_ms(frame: Frame) -> float:
    """Return by how much a frame is said to be younger than its picture is."""
    assert frame.pixels is not None
    return frame.captured.monotonic_ns / 1e6 - exposed_ms(frame.pixels)


def test_red_is_red_and_what_waited_while_the_stream_was_opened_is_not_given(
    network: NetworkCamera,
) -> None:
    with closing(RtspCamera(RtspSource(url=network.url))) as camera:
        camera.open()
        camera.arm()
        frame = next_of(camera)
        assert frame.pixels is not None
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.shape == (120, 160, 3)
        red, green, blue = frame.pixels[100, 80]
        assert red > 240
        assert max(green, blue) < 16
        assert abs(age_ms(frame)) < BUSY_MS
        told = camera.describe()
        assert (told.width, told.height, told.fps) == (160, 120, FPS)
        assert told.settings["time of a frame"] == "when it was read"


def test_a_backlog_after_a_stall_comes_at_once_with_true_times_and_a_longer_one_is_told_in_time(
    network: NetworkCamera,
) -> None:
    with closing(RtspCamera(RtspSource(url=network.url, read_timeout_ms=1500))) as camera:
        camera.open()
        camera.arm()
        believed_s = time.monotonic() + 15
        while camera.describe().settings["time of a frame"] == "when it was read":
            next_of(camera)
            assert time.monotonic() < believed_s
        network.freeze()
        threading.Timer(1.0, network.thaw).start()
        frozen_s = time.monotonic()
        waited = []
        way_ms = age_ms(next_of(camera))
        assert 0 < way_ms < WAY_MS
        while time.monotonic() < frozen_s + 1.5:
            frame = next_of(camera)
            assert abs(age_ms(frame) - way_ms) < APART_MS
            waited.append(time.monotonic_ns() - frame.captured.monotonic_ns > 200e6)
        assert sum(waited) > 0.6 * FPS  # the burst: nothing of it was dropped, or paced
        assert not waited[-1]
        network.freeze()
        frozen_s = time.monotonic()
        with pytest.raises(CameraError, match="1500 ms"):  # noqa: PT012 -- what was under way comes first
            while True:
                assert abs(age_ms(next_of(camera))) < WAY_MS
        assert time.monotonic() - frozen_s < 1.5 + 2.0


def test_a_camera_that_is_killed_is_taken_up_within_five_seconds_and_no_frame_is_judged_twice(
    network: NetworkCamera, tmp_path: Path
) -> None:
    source = network.source | {"read_timeout_ms": 1000}
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), source=source, capacity=512) as capture,
    ):
        judge = Judge(capture, exposed_ms)
        capture.start()
        wait_until(lambda: len(judge.turn()) > 10, 20, "no frames")
        network.kill()
        wait_until(lambda: "camera fault" in capture.log(), 5, "the fault is not told")
        before = len(judge.turn())
        network.start()
        wait_until(lambda: len(judge.turn()) > before + 10, 5, "no frames again")
        parts = list(judge.turn().values())
    exposures = [part.seen for part in parts if part.seen is not None]
    assert all(earlier < later for earlier, later in pairwise(exposures))
    for part in parts:
        assert part.reason is None
        accepted_ms = part.entry.accepted.triggered_monotonic_ns / 1e6
        assert part.seen is not None
        assert abs(accepted_ms - part.seen) < BUSY_MS


def test_each_trigger_gets_the_first_frame_that_was_exposed_after_it_also_out_of_a_burst(
    network: NetworkCamera, tmp_path: Path
) -> None:
    source = network.source | {
        "trigger": "software",
        "read_timeout_ms": 1500,
        "latency_ms": LATENCY_MS,
    }
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), source=source, capacity=64) as capture,
        closing(connected(capture.bind)) as sender,
    ):
        judge = Judge(capture, exposed_ms)
        announced: list[int] = []

        def announce() -> None:
            number = len(announced)
            announced.append(time.monotonic_ns())
            header = json.dumps({"version": 1, "part_id": f"part-{number}"})
            sender.send_multipart([f"id-{number}".encode(), header.encode()])

        def is_answered() -> bool:
            return len(judge.turn()) == len(announced)

        def take(count: int, within_s: float) -> None:
            for _ in range(count):
                announce()
                wait_until(is_answered, within_s, "a trigger has no answer")

        capture.start()
        wait_until(lambda: capture.journal.camera_note() is not None, 20, "does not start")

        def first() -> bool:
            take(1, 10)
            return list(judge.parts.values())[-1].reason is None

        wait_until(first, 20, "no frame")
        alone = len(announced)
        take(10, 2)
        wait_until(lambda: time.monotonic_ns() > announced[alone] + 4.5e9, 9, "no time passes")
        take(7, 2)  # by the stream's clock from here on
        in_order = len(announced)
        network.freeze()
        wait_until(lambda: time.monotonic_ns() > announced[-1] + 0.8e9, 9, "no time passes")
        announce()
        network.thaw()
        wait_until(is_answered, 5, "the trigger within a stall has no answer")
        for _ in range(3):
            announce()
        wait_until(is_answered, 5, "three at once have no answer")
        network.kill()
        take(1, 5)
        network.start()
        came_back_s = time.monotonic()
        wait_until(first, 10, "no frame after the camera is back")
        assert time.monotonic() - came_back_s < 10
        parts = [judge.parts[number] for number in sorted(judge.parts)]
    assert [p.entry.accepted.part_id for p in parts] == [f"part-{n}" for n in range(len(parts))]
    reasons = [part.reason for part in parts]
    assert reasons[alone:in_order] == [None] * 17
    assert reasons[in_order : in_order + 4] == [None, None, *[InvalidReason.OVERRUN] * 2]
    assert set(reasons[in_order + 4 : -1]) == {InvalidReason.LOST}
    judged = [part for part in parts if part.seen is not None]
    for part in judged:
        assert part.seen is not None
        after_ms = part.seen - part.entry.accepted.triggered_monotonic_ns / 1e6
        assert -10 < after_ms < 2.5 * 1000 / FPS + LATENCY_MS + BUSY_MS
    assert all(a.seen < b.seen for a, b in pairwise(judged) if a.seen and b.seen)


class _Pictures(BaseHTTPRequestHandler):
    """A camera that sends JPEG after JPEG over HTTP: such a stream says no times at all."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, 255), np.uint8))[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        try:
            while True:
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.1)
        except ConnectionError:
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class' name
        del format, args


def test_an_http_stream_without_times_gives_red_frames_as_old_as_their_reading() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/video"
        with closing(RtspCamera(RtspSource(url=url))) as camera:
            camera.open()
            camera.arm()
            for _ in range(12):
                frame = next_of(camera)
                assert frame.pixels is not None
                assert frame.pixels[24, 32, 0] > 240
                assert time.monotonic_ns() - frame.captured.monotonic_ns < BUSY_MS * 1e6
            assert camera.describe().settings["time of a frame"] == "when it was read"
        server.shutdown()


def test_credentials_reach_the_camera_and_no_message() -> None:
    settings = {"url": "rtsp://127.0.0.1:9/1", "username": "viewer", "password": "p@ss/w:rd"}
    camera = RtspCamera(RtspSource.model_validate(settings))
    assert camera._address() == "rtsp://viewer:p%40ss%2Fw%3Ard@127.0.0.1:9/1"
    with pytest.raises(CameraError) as caught:
        camera.open()
    assert "p@ss" not in str(caught.value)
    assert "%40" not in str(caught.value)
