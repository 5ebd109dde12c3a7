"""A frame that somebody copies without a say in its slot is whole, or is not handed out."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ssn_agent.capture.camera import Frame, HostTime
from ssn_agent.capture.intake import Intake
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Outcome
from ssn_agent.frames.onlooker import Onlooker
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.settings import Settings
from ssn_contract.messages import InvalidReason
from support.children import environment
from support.ledgers import settings_in
from support.records import LATE, judged, new_journal

FRAMES = 200


class Camera:
    """A camera's files, capture's side of them, and an onlooker."""

    def __init__(self, folder: Path, runtime: Path, capacity: int = 64) -> None:
        self.settings: Settings = settings_in(folder, runtime_dir=runtime)
        self.files = RuntimeFiles(runtime)
        PixelSlots.create(self.files.pixels("left"))
        new_journal(self.files.journal("left"), capacity=capacity).close()
        self.slots = PixelSlots(self.files.pixels("left"))
        self.onlooker = Onlooker(Journal(self.files.journal("left")), self.slots)

    def intake(self) -> Intake:
        """Start capture, as its process does."""
        return Intake("left", self.settings.cameras["left"], self.files)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        yield Camera(tmp_path, Path(runtime))


def gray(value: int) -> Pixels:
    return np.full((4, 6), value, np.uint8)


def placed(intake: Intake, value: int) -> int:
    """Take in a part with its frame; return its number."""
    counted = intake.accept(None)
    intake.place(counted.sequence, Frame(gray(value)))
    return counted.sequence


def test_the_newest_frame_is_copied_before_and_after_its_result(camera: Camera) -> None:
    intake = camera.intake()
    placed(intake, 7)
    sequence = placed(intake, 8)
    waiting = camera.onlooker.newest(0)
    intake.journal.finish(sequence, judged(Outcome.PASS))
    done = camera.onlooker.newest(0)
    assert waiting is not None
    assert done is not None
    assert (waiting.sequence, waiting.entry.result) == (sequence, None)
    assert (done.sequence, done.entry.result) == (sequence, judged(Outcome.PASS))
    assert np.array_equal(waiting.pixels, gray(8))
    assert np.array_equal(done.pixels, gray(8))
    assert camera.onlooker.newest(sequence) is None


def test_a_frame_with_a_result_is_not_copied_while_a_trigger_waits_for_its_own(
    camera: Camera,
) -> None:
    intake = camera.intake()
    judged_one = placed(intake, 7)
    intake.journal.finish(judged_one, judged(Outcome.PASS))
    waiting = intake.accept(None)
    assert camera.onlooker.newest(0) is None
    intake.close(waiting.sequence, InvalidReason.OVERRUN)
    found = camera.onlooker.newest(0)
    assert found is not None
    assert found.sequence == judged_one


def test_a_frame_that_waits_is_copied_whatever_comes_behind_it(camera: Camera) -> None:
    intake = camera.intake()
    sequence = placed(intake, 7)
    intake.accept(None)
    found = camera.onlooker.newest(0)
    assert found is not None
    assert found.sequence == sequence


def test_a_slot_that_a_dead_capture_process_may_have_half_written_is_not_copied(
    camera: Camera,
) -> None:
    intake = camera.intake()
    sequence = placed(intake, 7)
    intake.journal.finish(sequence, judged(Outcome.PASS))
    intake.accept(None)
    camera.slots.view(0, 4, 6, PixelFormat.Mono8)[:2] = 9  # and then it dies
    camera.intake()  # the next one: that trigger is LOST
    assert camera.onlooker.newest(0) is None


def test_a_copy_during_which_a_number_is_begun_is_not_handed_out(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = camera.intake()
    sequence = placed(intake, 7)
    intake.journal.finish(sequence, judged(Outcome.PASS))

    def meanwhile(act: Callable[[], object]) -> None:
        view = camera.slots.view

        def viewed(*arguments: object) -> Pixels:
            found = view(*arguments)  # type: ignore[arg-type]  # handed on as they come
            act()
            return found

        monkeypatch.setattr(camera.slots, "view", viewed)

    meanwhile(lambda: placed(intake, 9))
    assert camera.onlooker.newest(0) is None


def test_a_spilled_number_that_is_gone_makes_nothing_certain(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        camera = Camera(tmp_path, Path(runtime), capacity=2)
        intake = camera.intake()
        for value in (7, 8):
            intake.journal.finish(placed(intake, value), LATE)
        assert camera.onlooker.newest(0) is not None
        now = HostTime.now()
        spilled = Accepted(now.monotonic_ns, now.utc_ns, now.monotonic_ns, None, None)
        intake.journal.spill(spilled)
        assert camera.onlooker.newest(0) is None


@pytest.mark.parametrize("behind", [0, 2])
def test_no_copy_is_ever_torn_however_capture_races_it(camera: Camera, behind: int) -> None:
    camera.files.settings.write_text(camera.settings.model_dump_json())
    command = [sys.executable, "-m", "support.frame_writer", str(camera.files.settings)]
    writer = subprocess.Popen([*command, str(FRAMES), str(behind)], env=environment())
    copied = 0
    try:
        while writer.poll() is None:
            seen = camera.onlooker.newest(0)
            if seen is None:
                continue
            copied += 1
            assert seen.pixels.min() == seen.pixels.max() == seen.sequence % 256
        assert writer.returncode == 0
    finally:
        writer.kill()
        writer.wait()
    assert copied >= 3
