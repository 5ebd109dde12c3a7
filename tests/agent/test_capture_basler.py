"""Basler cameras through pylon, against the emulation that pylon brings, with pictures of ours."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from ssn_agent.capture.camera import Frame, FrameIds
from ssn_agent.demo.line import ProductionLine
from ssn_agent.errors import CameraError
from ssn_agent.frames.journal import Entry
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.notes import CameraState
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.slots import PixelSlots
from ssn_contract.messages import InvalidReason
from ssn_contract.zeromq import PartAnswer
from support.capture import CaptureProcess, capture_process, connected
from support.records import judged
from support.remote import OwnProcess, own_process
from support.waiting import wait_until

EMULATED = {"PYLON_CAMEMU": "2"}
BEFORE = "import os; os.environ['PYLON_CAMEMU'] = '1'"
SERIAL = "0815-0000"
HEIGHT, WIDTH = 48, 64
STEP = 5
"""Between the values of one flat picture and the next."""


def showing(folder: Path, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Any]:
    """Return a source whose camera shows a folder's pictures, one after the other."""
    show = {"ImageFilename": str(folder), "ImageFileMode": "On", "TestImageSelector": "Off"}
    region = {"x": 0, "y": 0, "width": width, "height": height}
    return {"kind": "basler", "device": SERIAL, "sensor_region": region, "features": show}


def with_features(source: dict[str, Any], **features: Any) -> dict[str, Any]:
    return {**source, "features": {**source["features"], **features}}


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw fifty pictures, each of one gray."""
    folder = tmp_path_factory.mktemp("flat")
    for index in range(50):
        picture = np.full((HEIGHT, WIDTH), index * STEP, np.uint8)
        assert cv2.imwrite(str(folder / f"{index:03d}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Pixels]]:
    """Draw parts of the demonstration's line, in false colours."""
    folder = tmp_path_factory.mktemp("drawn")
    grays = [ProductionLine(0, 0.5).part(number).image for number in range(3)]
    pictures = [np.dstack((gray, 255 - gray, gray[::-1])) for gray in grays]
    for number, picture in enumerate(pictures):
        assert cv2.imwrite(str(folder / f"{number}.png"), picture[:, :, ::-1])
    return folder, pictures


@pytest.fixture(scope="module")
def own() -> Iterator[OwnProcess]:
    """Hold pylon for the tests of this file that share it."""
    with own_process(**EMULATED) as made:
        yield made


def values(frames: list[Frame]) -> list[int]:
    """Return the gray of flat pictures, as their position in the folder."""
    pixels = [frame.pixels for frame in frames]
    assert all(p is not None and p.min() == p.max() for p in pixels)
    return [int(p.max()) // STEP for p in pixels if p is not None]


# Finding and opening.


def test_cameras_are_found_and_what_is_found_opens(own: OwnProcess, flat: Path) -> None:
    found = own.find_basler()
    assert [f.name for f in found] == [f"Basler Emulation 0815-000{n}" for n in range(2)]
    with own.running(**{**showing(flat), **found[1].source}) as camera:
        assert camera.describe().serial == "0815-0001"


@pytest.mark.parametrize("device", [None, "0815-0007"])
def test_a_camera_that_is_not_named_or_not_there_is_told_with_those_that_are(
    own: OwnProcess, device: str | None
) -> None:
    with pytest.raises(CameraError, match=r"source\.device; there are: 0815-0000 or Emulation"):
        own.camera(kind="basler", device=device).open()


def test_where_no_camera_is_there_the_error_says_so() -> None:
    with own_process(PYLON_CAMEMU="0") as none:
        assert none.find_basler() == []
        with pytest.raises(CameraError, match=r"0 cameras fit; .* there are: none"):
            none.camera(kind="basler").open()


def test_where_pylon_is_missing_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pypylon.py").write_text("raise ImportError('No module named pypylon')")
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    code = f"{path}; import ssn_agent.capture.drivers.basler"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "CameraError: Basler cameras: No module named pypylon; pip install" in told.stderr


def test_a_camera_opens_again_and_again(own: OwnProcess, flat: Path) -> None:
    camera = own.camera(**showing(flat))
    camera.close()
    for _ in range(10):
        camera.open()
        camera.arm()
        assert values(camera.taken(2)) == [0, 1]
        camera.close()
        camera.close()
    with pytest.raises(CameraError, match="is not open"):
        camera.next_frame(0)


# Settings.


def test_what_is_set_is_what_the_camera_does(own: OwnProcess, flat: Path) -> None:
    source = with_features(showing(flat), AcquisitionFrameRate=50, ReverseX=True)
    with own.running(**source, exposure_us=1500, gain=6, pixel_format="Mono8") as camera:
        camera.taken()
        described = camera.describe()
    assert (described.vendor, described.serial) == ("Basler", SERIAL)
    assert (described.width, described.height) == (WIDTH, HEIGHT)
    assert (described.pixel_format, described.fps) == ("Mono8", 50.0)
    assert described.triggers == ("free", "software", "line")
    assert (described.has_frame_ids, described.has_device_timestamps) == (True, False)
    assert described.settings["ExposureTime"].startswith("1500.0 (")
    assert described.settings["TriggerMode"] == "Off (Off, On)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exposure_us": 5e7}, r"Basler 0815-0000: ExposureTime is set .*takes 1 to 1e\+07"),
        ({"sensor_region": {"x": 4000, "y": 0, "width": 1000, "height": 9}}, "OffsetX is set to"),
        ({"features": {"Contrast": 1}}, "has no feature Contrast; take it out"),
        ({"features": {"Width": "wide"}}, "Width is set to wide: of another kind"),
        ({"features": {"SensorWidth": 1}}, "SensorWidth is set to 1: Node is not writable"),
        ({"pixel_format": "Mono7"}, "PixelFormat is set to Mono7: .*takes Mono8, Mono10"),
        ({"pixel_format": "Mono12"}, "sends Mono12, .* set the source's pixel_format to one of"),
        ({"trigger": "line", "trigger_line": "Line9"}, "TriggerSource is set to Line9"),
    ],
)
def test_what_a_camera_refuses_is_named_with_what_it_takes(
    own: OwnProcess, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(CameraError, match=message):
        own.camera(kind="basler", device=SERIAL, **settings).open()


def test_a_line_trigger_is_set_and_its_camera_may_be_silent(own: OwnProcess, flat: Path) -> None:
    line = {"trigger": "line", "trigger_line": "Line2", "trigger_activation": "FallingEdge"}
    with own.running(**showing(flat), **line) as camera:
        described = camera.describe().settings
        assert camera.next_frame(0.1) is None
        assert camera.silence_limit_s is None
    assert described["TriggerSource"].startswith("Line2 (")
    assert described["TriggerActivation"].startswith("FallingEdge (")


# Frames.


@pytest.mark.parametrize(
    ("entry", "known"),
    [
        ("RGB8Packed", PixelFormat.RGB8),
        ("BGR8Packed", PixelFormat.BGR8),
        ("BGRA8Packed", PixelFormat.BGRa8),
    ],
)
def test_a_frame_is_the_picture_in_front_of_the_camera(
    own: OwnProcess, drawn: tuple[Path, list[Pixels]], entry: str, known: PixelFormat
) -> None:
    folder, pictures = drawn
    height, width = pictures[0].shape[:2]
    with own.running(**showing(folder, height, width), pixel_format=entry) as camera:
        frames = camera.taken(3)
    assert {frame.pixel_format for frame in frames} == {known}
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.pixels is not None
        shown = frame.pixels if known is PixelFormat.RGB8 else frame.pixels[..., 2::-1]
        np.testing.assert_array_equal(shown, picture)


def test_frames_count_on_and_arming_begins_afresh(own: OwnProcess, flat: Path) -> None:
    with own.running(**showing(flat)) as camera:
        frames = camera.taken(15)
        assert camera.frame_ids == FrameIds()
        time.sleep(0.1)  # frames pile up
        camera.arm()
        armed_ns = time.monotonic_ns()
        again = camera.taken(2)
    assert [f.frame_id for f in frames] == values(frames) == list(range(15))
    assert {f.device_timestamp_ns for f in frames} == {None}  # always 0 in the emulation
    assert values(again) == [0, 1]
    assert again[0].captured.monotonic_ns > armed_ns


def test_a_wait_is_kept(own: OwnProcess, flat: Path) -> None:
    with own.running(**showing(flat), trigger="software") as camera:
        for wait_s in (0.0, 0.005, 0.2):
            began = time.monotonic()
            assert camera.next_frame(wait_s) is None
            assert wait_s <= time.monotonic() - began < wait_s + 0.5


def test_a_trigger_passes_over_what_was_exposed_before(own: OwnProcess, flat: Path) -> None:
    with own.running(**showing(flat), trigger="software") as camera:
        for _ in range(3):
            camera.trigger()  # not fetched
            time.sleep(0.05)
        camera.trigger()
        assert values(camera.taken()) == [3]
        assert camera.next_frame(0.05) is None


def test_a_camera_that_is_unplugged_is_told_and_opens_again(own: OwnProcess, flat: Path) -> None:
    camera = own.camera(**showing(flat), trigger="software")
    camera.open()
    camera.arm()
    camera.hosted.write("FirePnPCallback", True)
    wait_until(lambda: is_gone(camera.next_frame), 5, "nothing was noticed")
    with pytest.raises(CameraError, match="is gone; was it unplugged"):
        camera.trigger()
    camera.close()
    camera.open()
    camera.arm()
    camera.trigger()
    assert values(camera.taken()) == [0]
    camera.close()


def is_gone(ask: Any) -> bool:
    try:
        ask(0.01)
    except CameraError:
        return True
    return False


# Through the loops, in the capture process itself.


class Judge:
    """Takes what a capture process has captured, as inference and ledger do."""

    def __init__(self, capture: CaptureProcess) -> None:
        self._capture = capture
        self._slots = PixelSlots(capture.files.pixels("left"))
        self.shown: dict[int, int] = {}
        """Of each part with a frame, by its sequence: the position of its picture."""

    def take(self) -> list[Entry]:
        """Return all records, after those that have their frame were judged."""
        for entry in self._capture.entries():
            captured = entry.captured
            if captured is None or entry.result is not None:
                continue
            if captured.reason is None:
                size = captured.height, captured.width
                pixels = self._slots.view(captured.slot, *size, captured.pixel_format)
                self.shown[entry.sequence] = int(pixels.max()) // STEP
            self._capture.journal.finish(entry.sequence, judged(Outcome.PASS))
            self._capture.journal.commit(entry.sequence)
        return self._capture.entries()

    def wait_for(self, count: int) -> list[Entry]:
        """Return the first records, when they are done."""

        def done() -> list[Entry]:
            return [entry for entry in self.take() if entry.result is not None]

        wait_until(lambda: len(done()) >= count, 30, f"not {count} parts are done")
        return done()[:count]


@contextmanager
def judged_capture(folder: Path, source: dict[str, Any]) -> Iterator[tuple[CaptureProcess, Judge]]:
    """Start a capture process on the emulation, and wait until its camera runs."""
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(folder, Path(runtime), capacity=256, source=source) as capture,
    ):
        capture.start(BEFORE)
        wait_until(lambda: runs(capture), 30, "the camera does not run")
        yield capture, Judge(capture)


def runs(capture: CaptureProcess) -> bool:
    note = capture.journal.camera_note()
    assert note is None or note.state is not CameraState.FAULTY, note
    return note is not None and note.state is CameraState.RUNNING


class Sender:
    """Announces parts, each by its own trigger."""

    def __init__(self, bind: str) -> None:
        self._peer = connected(bind)
        self._peer.setsockopt(zmq.SNDTIMEO, 10_000)
        self._peer.setsockopt(zmq.RCVTIMEO, 10_000)

    def send(self, part: str) -> None:
        header = {"version": 1, "part_id": part}
        self._peer.send_multipart([f"trigger-{part}".encode(), json.dumps(header).encode()])

    def answer(self) -> PartAnswer:
        return PartAnswer.model_validate_json(self._peer.recv_multipart()[-1])

    def close(self) -> None:
        self._peer.close()


def reasons(entries: list[Entry]) -> list[InvalidReason | None]:
    return [entry.captured.reason for entry in entries if entry.captured is not None]


def test_each_trigger_has_one_record_in_order_with_the_picture_of_its_own_part(
    tmp_path: Path, flat: Path
) -> None:
    source = {**showing(flat), "device": None, "trigger": "software"}  # the only one there
    with (
        judged_capture(tmp_path, source) as (capture, judge),
        closing(Sender(capture.bind)) as sender,
    ):
        for number in range(30):
            sender.send(f"part-{number}")
            assert sender.answer().sequence == number + 1
            judge.wait_for(number + 1)
        entries = judge.take()
        assert [e.accepted.part_id for e in entries] == [f"part-{n}" for n in range(30)]
        assert set(reasons(entries)) == {None}
        assert list(judge.shown.values()) == list(range(30))
        # The camera shows a picture for each frame that it exposes: none was exposed in vain.
        for number in range(30, 33):
            sender.send(f"part-{number}")
        assert [sender.answer().sequence for _ in range(3)] == [31, 32, 33]
        overrun = [InvalidReason.OVERRUN] * 2
        assert reasons(judge.take()[31:]) == overrun  # at once: they were answered before it came
        judge.wait_for(33)
        for number in range(33, 36):
            sender.send(f"part-{number}")
            sender.answer()
            judge.wait_for(number + 1)
        assert reasons(judge.take()[30:]) == [None, *overrun, None, None, None]
        assert [judge.shown[n] for n in (31, 34, 35, 36)] == [30, 31, 32, 33]
        note = capture.journal.intake_note()
        assert note is not None
        assert (note.received_frames, note.discarded_frames) == (34, 0)


def test_five_failed_buffers_are_five_unreadable_parts_and_no_lost_ones(
    tmp_path: Path, flat: Path
) -> None:
    source = with_features(
        showing(flat), AcquisitionFrameRate=30, ForceFailedBufferCount=5, ForceFailedBuffer=True
    )
    with judged_capture(tmp_path, source) as (capture, judge):
        entries = judge.wait_for(40)
        note = capture.journal.intake_note()
    assert Counter(reasons(entries)) == {InvalidReason.UNREADABLE: 5, None: 35}
    assert note is not None
    assert (note.incomplete_frames, note.missed_frames) == (5, 0)
    ids = [e.captured.frame_id for e in entries if e.captured is not None and not e.captured.reason]
    assert ids == list(range(5, 40))
    assert [judge.shown[e.sequence] for e in entries[5:]] == ids


def test_a_capture_process_that_is_killed_gives_frames_again(tmp_path: Path, flat: Path) -> None:
    source = with_features(showing(flat), AcquisitionFrameRate=30)
    with judged_capture(tmp_path, source) as (capture, judge):
        judge.wait_for(10)
        capture.kill()
        before = len(judge.take())
        capture.start(BEFORE)
        entries = judge.wait_for(before + 10)
        new = reasons(entries)[before:]
        assert new == [None] * 10
        assert [judge.shown[e.sequence] for e in entries[before:]] == list(range(10))
