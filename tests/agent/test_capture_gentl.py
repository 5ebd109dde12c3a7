"""Cameras through GenTL, against the simulator that the genicam package brings (`viky.cti`)."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ssn_agent.capture.camera import Frame, FrameIds
from ssn_agent.capture.free_running import FreeRunning
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.errors import CameraEnded, CameraError
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.notes import CameraState
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.processes import Stop
from ssn_contract.messages import InvalidReason
from support.capture import capture_process
from support.ledgers import settings_in
from support.records import judged, new_journal
from support.remote import OwnProcess, RemoteCamera, own_process
from support.waiting import wait_until


def _simulator() -> Path:
    spec = find_spec("genicam")  # found, not imported
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("viky.cti")


VIKY = _simulator()
GREEN = {"kind": "gentl", "producer": str(VIKY), "device": "1"}
FAST = {"AcquisitionFrameRate": 100}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnProcess]:
    """Hold the producer for the tests of this file that share it."""
    with own_process() as made:
        yield made


def ball(frame: Frame) -> tuple[int, ...]:
    """Return the colour of what the simulator draws on white."""
    assert frame.pixels is not None
    drawn = frame.pixels[(frame.pixels[..., :3] != 255).any(axis=2)]
    (colour,) = np.unique(drawn[:, :3], axis=0)
    return tuple(colour.tolist())


# Finding and opening.


def test_the_devices_of_a_producer_are_found_and_what_is_found_opens(own: OwnProcess) -> None:
    found = own.find_gentl([VIKY])
    assert [f.name for f in found] == [f"Machine Vision Games Ltd. Viky {n}" for n in range(3)]
    with own.running(kind="gentl", **found[2].source) as camera:
        assert ball(*camera.taken()) == (0, 0, 255)


def test_a_producer_that_fails_leaves_the_others_to_be_found(
    own: OwnProcess, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.cti"
    broken.write_text("no library")
    assert len(own.find_gentl([broken, VIKY])) == 3


def test_producers_are_looked_for_where_vendors_install_them(tmp_path: Path) -> None:
    shutil.copy(VIKY, tmp_path / "vendor.cti")
    with own_process(GENICAM_GENTL64_PATH=f"/nowhere:{tmp_path}") as its_own:
        found = its_own.find_gentl(None)
    assert [f.source["device"] for f in found] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("device", "colour"), [("0", (255, 0, 0)), ("VikyTL_DEV_green", (0, 255, 0))]
)
def test_a_device_opens_by_serial_number_or_id_and_gives_its_true_colours(
    own: OwnProcess, device: str, colour: tuple[int, ...]
) -> None:
    with own.running(**{**GREEN, "device": device}) as camera:
        (frame,) = camera.taken()
    assert ball(frame) == colour
    assert frame.pixel_format is PixelFormat.RGBa8


@pytest.mark.parametrize("device", [None, "7"])
def test_a_device_that_is_not_named_or_not_there_is_told_with_those_that_are(
    own: OwnProcess, device: str | None
) -> None:
    with pytest.raises(CameraError, match=r"source\.device; there are: 0 or VikyTL_DEV_red; 1 or"):
        own.camera(**{**GREEN, "device": device}).open()


def test_a_producer_that_is_missing_broken_or_another_library_is_told(
    own: OwnProcess, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.cti"
    broken.write_text("no library")
    library = next(Path("/lib").glob("*/libm.so.6"))
    wrong = {
        tmp_path / "none.cti": r"none\.cti: no such file; give the path of the vendor's \.cti",
        broken: r"broken\.cti: cannot be loaded .*install the vendor's GenTL software",
        library: r"libm\.so\.6: is a library, but no GenTL producer",
    }
    for path, message in wrong.items():
        with pytest.raises(CameraError, match=message):
            own.camera(**{**GREEN, "producer": str(path)}).open()


def test_where_the_packages_are_missing_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "harvesters.py").write_text("raise ImportError('No module named harvesters')")
    code = "import ssn_agent.capture.drivers.gentl"
    missing = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    told = subprocess.run(missing, capture_output=True, text=True, check=False).stderr
    assert "CameraError: GenTL cameras: No module named harvesters; pip install" in told


def test_a_device_that_is_open_elsewhere_is_told_and_goes_on(own: OwnProcess) -> None:
    with own.running(**GREEN) as camera:
        with pytest.raises(CameraError, match="another program has it"):
            own.camera(**{**GREEN, "device": "0"}).open()
        camera.taken(3)


def test_a_camera_opens_again_and_again(own: OwnProcess) -> None:
    camera = own.camera(**GREEN, features=FAST)
    camera.close()
    for _ in range(10):
        camera.open()
        camera.arm()
        assert camera.taken()[0].frame_id == 1
        camera.close()
        camera.close()
    with pytest.raises(CameraError, match="is not open"):
        camera.next_frame(0)


# Settings.


def test_what_is_set_is_what_frames_are(own: OwnProcess) -> None:
    region = {"x": 0, "y": 0, "width": 320, "height": 240}
    source = {**GREEN, "pixel_format": "Mono8", "sensor_region": region}
    features = {"AcquisitionFrameRate": 50, "BouncingBallSize": 7}
    with own.running(**source, features=features) as camera:
        (frame,) = camera.taken()
        described = camera.describe()
    assert frame.pixels is not None
    assert frame.pixels.shape == (240, 320)
    assert frame.pixel_format is PixelFormat.Mono8
    assert (described.width, described.height, described.fps) == (320, 240, 50.0)
    assert described.serial == "1"
    assert described.triggers == ("free",)
    assert (described.has_frame_ids, described.has_device_timestamps) == (True, False)
    assert described.settings["PixelFormat"] == "Mono8 (RGBa8, Mono8)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": {"AcquisitionFrameRate": 500}}, r"AcquisitionFrameRate.*takes 1 to 200"),
        ({"features": {"BouncingBallSize": "big"}}, r"BouncingBallSize.*takes 1 to 40"),
        ({"features": {"PayloadSize": 5}}, r"PayloadSize is set to 5: Node is not writable"),
        ({"features": {"Contrast": 5}}, "has no feature Contrast"),
        ({"pixel_format": "Mono12"}, r"PixelFormat.*takes RGBa8, Mono8"),
        ({"exposure_us": 100}, "has no feature ExposureTime"),
        ({"trigger": "software"}, "has no feature TriggerMode"),
    ],
)
def test_what_a_camera_refuses_is_named_with_what_it_takes(
    own: OwnProcess, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(CameraError, match=message):
        own.camera(**GREEN, **settings).open()


# Frames.


def test_frames_count_on_and_each_keeps_its_own_picture(own: OwnProcess) -> None:
    with own.running(**GREEN, features=FAST) as camera:
        frames = camera.taken(20)
        assert camera.frame_ids == FrameIds()
    assert [f.frame_id for f in frames] == list(range(1, 21))
    moments = [f.captured.monotonic_ns for f in frames]
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert {f.device_timestamp_ns for f in frames} == {None}  # the simulator has none
    pictures = {f.pixels.tobytes() for f in frames if f.pixels is not None}
    assert len(pictures) == 20  # the ball moves on


def test_a_frame_that_came_incomplete_has_its_id_and_no_pixels(own: OwnProcess) -> None:
    with own.running(**GREEN, features=FAST) as camera:
        camera.hosted.spoil([2, 3])  # the simulator loses nothing by itself
        frames = camera.taken(5)
        camera.hosted.spoil([])
    assert [f.frame_id for f in frames] == [1, 2, 3, 4, 5]
    assert [f.pixels is None for f in frames] == [False, True, True, False, False]
    assert [f.problem for f in frames] == ["", "came incomplete", "came incomplete", "", ""]


def test_arming_drops_what_was_exposed_before(own: OwnProcess) -> None:
    with own.running(**GREEN, features=FAST) as camera:
        camera.taken(3)
        time.sleep(0.1)  # frames pile up
        camera.arm()
        armed_ns = time.monotonic_ns()
        first, second = camera.taken(2)
    assert (first.frame_id, second.frame_id) == (1, 2)
    assert first.captured.monotonic_ns > armed_ns


def test_a_wait_is_kept(own: OwnProcess) -> None:
    with own.running(**GREEN, features={"AcquisitionFrameRate": 1}) as camera:
        camera.taken()
        for wait_s in (0.0, 0.005, 0.2):
            began = time.monotonic()
            assert camera.next_frame(wait_s) is None
            assert wait_s <= time.monotonic() - began < wait_s + 0.5


def test_other_threads_run_while_a_frame_is_waited_for(own: OwnProcess) -> None:
    with own.running(**GREEN, features={"AcquisitionFrameRate": 1}) as camera:
        camera.taken()
        assert camera.hosted.held_up_s(0.8) < 0.4


def test_a_camera_that_no_longer_answers_is_told_although_silence_is_normal(
    own: OwnProcess,
) -> None:
    with own.running(**GREEN) as camera:
        camera.taken(2)
        camera.hosted.write("AcquisitionStop", True)
        while camera.next_frame(0.1) is not None:
            pass
        assert camera.next_frame(1.1) is None  # it answers: it may be silent
        camera.hosted.unplug()
        with pytest.raises(CameraError, match="does not answer; was it unplugged"):
            camera.next_frame(1.1)


def test_a_device_that_has_no_software_trigger_is_told_when_it_is_asked_for_one(
    own: OwnProcess,
) -> None:
    with own.running(**GREEN, features=FAST) as camera:
        camera.taken(2)
        with pytest.raises(CameraError, match="TriggerSoftware is set to True: "):
            camera.trigger()


def test_silence_is_a_fault_of_a_free_running_camera_alone(own: OwnProcess) -> None:
    limits = {
        trigger: own.camera(**GREEN, trigger=trigger, silence_ms=300).silence_limit_s
        for trigger in ("free", "software", "line")
    }
    assert limits == {"free": 0.3, "software": None, "line": None}


# Through the loop of a free-running camera.


class Stalling(RemoteCamera):
    """Is not asked for a while now and then, until a gap has shown itself."""

    last_id = 0
    has_gap = False

    def next_frame(self, wait_s: float) -> Frame | None:
        if self.has_gap and self.last_id % 10 == 0:
            raise CameraEnded("enough")
        if self.last_id % 10 == 5 and not self.has_gap:
            time.sleep(0.4)  # forty frames' time, and the producer has sixteen buffers
        frame = super().next_frame(wait_s)
        if frame is not None and frame.frame_id is not None:
            self.has_gap |= frame.frame_id > self.last_id + 1
            self.last_id = frame.frame_id
        return frame


def test_frames_that_found_no_buffer_are_lost_parts_by_their_ids(
    own: OwnProcess, tmp_path: Path
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        settings = settings_in(tmp_path, runtime_dir=Path(runtime))
        files = RuntimeFiles(settings.runtime_dir)
        PixelSlots.create(files.pixels("left"))
        with closing(new_journal(files.journal("left"), capacity=512)) as journal:
            intake = Intake("left", settings.cameras["left"], files)
            camera = Stalling(own.camera(**GREEN, features=FAST).hosted)
            FreeRunning(camera, intake, Life("left", files)).run(Stop())
            journal.refresh()
            entries = list(journal.entries(lambda _: True))
            note = journal.intake_note()
    for number, handler in before.items():
        signal.signal(number, handler)
    reasons = [entry.captured.reason for entry in entries if entry.captured is not None]
    lost = reasons.count(InvalidReason.LOST)
    assert lost
    assert note is not None
    assert note.missed_frames == lost
    assert len(entries) == camera.last_id  # those that came and those that did not


def test_a_capture_process_that_is_killed_gives_frames_again_and_ends_when_asked(
    tmp_path: Path,
) -> None:
    source = {**GREEN, "features": {"AcquisitionFrameRate": 30}}
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), capacity=64, source=source) as capture,
    ):
        seen = 0

        def judge_and_count() -> int:
            nonlocal seen
            for entry in capture.entries():
                if entry.captured is not None and entry.result is None:
                    # One may have been under way when the process was killed.
                    assert entry.captured.reason in {None, InvalidReason.LOST}
                    capture.journal.finish(entry.sequence, judged(Outcome.PASS))
                    capture.journal.commit(entry.sequence)
                    seen += 1
            return seen

        def frames_come(more: int) -> None:
            enough = seen + more
            wait_until(lambda: judge_and_count() >= enough, 30, capture.log())

        capture.start()
        frames_come(20)
        note = capture.journal.camera_note()
        assert note is not None
        assert note.state is CameraState.RUNNING
        capture.kill()
        capture.start()
        frames_come(20)
        capture.ask_to_end(signal.SIGINT)  # Ctrl-C is the supervisor's
        frames_come(5)
        capture.ask_to_end(signal.SIGTERM)
        assert capture.wait() == 0
