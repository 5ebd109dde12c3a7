"""What is known to be good and bad is judged as all else is, and blocks the rest where it fails."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ssn_agent.errors import SettingsError
from ssn_agent.frames.layout import Accepted, Captured, Outcome
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference import challenge as rules
from ssn_agent.inference import challenge_images, challenger
from ssn_agent.inference.challenge_state import (
    Item,
    Request,
    Standing,
    challenge_file,
    write_standing,
)
from ssn_agent.inference.challenger import EVERY
from ssn_contract.messages import InvalidReason
from support.bundles import write_brightness_bundle
from support.challenges import PARTS, folders, plain, spot, standing_of
from support.lanes import Lane
from support.ledgers import settings_in
from support.waiting import wait_until


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


class Camera(Lane):
    """A camera that is challenged."""

    def __init__(self, folder: Path, runtime: Path, challenge: dict[str, Any], **rest: Any) -> None:
        bundle = rest.pop("bundle", None) or write_brightness_bundle(folder / "brightness.ssn")
        super().__init__(folder, runtime, bundle=bundle, challenge=challenge, **rest)

    def part(self, pixels: Pixels, part_id: str | None = None) -> tuple[str, str | None]:
        """Let a part come; return its result."""
        result = self.result(self.frame(pixels, part_id=part_id))
        return result.outcome.name, result.reason.value if result.reason else None

    def standing(self) -> Standing:
        """Return how it stands on the disk."""
        found = standing_of(self.settings.data_dir)
        assert found is not None
        return found

    def until(self, state: str) -> None:
        """Turn until its challenge stands so."""

        def stands() -> bool:
            self.inference.turn()
            self.inference.challenge(idle=True)
            return self.standing().state == state

        wait_until(stands, 10, f"not {state}")

    def ask(self, what: str, who: str = "anna", why: str | None = None) -> None:
        """Ask as a command does, and wait until it is taken."""
        path = RuntimeFiles(self.settings.runtime_dir).challenge_request("left")
        request = Request.model_validate({"id": uuid4(), "what": what, "who": who, "why": why})
        path.write_text(request.model_dump_json())

        def is_taken() -> bool:
            self.inference.challenge(idle=True)
            return not path.exists()

        wait_until(is_taken, 10, "not taken")


BLOCKED = ("INVALID", "challenge")
PASSED = ("PASS", None)
FAILED = ("FAIL", None)


def test_pictures_that_are_judged_rightly_pass_the_challenge_without_a_part(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known"))
    assert camera.standing().state == "due"
    assert camera.part(plain()) == PASSED
    camera.until("passed")
    judged = [event for event in camera.standing().events if event.what == "judged"]
    verdicts = {(e.item.name, e.verdict.value) for e in judged if e.item and e.verdict}
    assert verdicts == {("good.png", "PASS"), ("bad.png", "FAIL")}
    scores = [event.score for event in judged]
    assert all(score is not None for score in scores)
    assert len({event.bundle_digest for event in judged}) == 1


def test_a_picture_is_scored_to_the_very_value_that_a_frame_of_it_gets(
    tmp_path: Path, runtime: Path
) -> None:
    odd = np.random.default_rng(1).integers(0, 256, (77, 53, 3), np.uint8)
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known", bad=odd))
    camera.until("passed")
    result = camera.result(camera.frame(odd[:, :, ::-1].copy()))  # OpenCV writes BGR
    [event] = [e for e in camera.standing().events if e.item and e.item.name == "bad.png"]
    assert (event.score, event.bundle_digest) == (result.score, result.bundle_digest)


def test_a_model_that_passes_a_known_bad_picture_judges_no_part(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known", bad=plain()))
    camera.until("failed")
    assert camera.part(plain()) == BLOCKED
    assert camera.part(spot()) == BLOCKED


@pytest.mark.parametrize("damage", ["not a picture", "empty folder", "no folder", "no UTF-8"])
def test_a_picture_that_cannot_be_read_fails_the_challenge_and_says_why(
    tmp_path: Path, runtime: Path, damage: str
) -> None:
    settings = folders(tmp_path / "known")
    picture = tmp_path / "known" / "bad" / "bad.png"
    if damage == "not a picture":
        picture.write_text("no picture")
    elif damage == "no UTF-8":
        picture.rename(os.fsdecode(bytes(picture.parent) + b"/b\xf6se.png"))
    else:
        picture.unlink()
    if damage == "no folder":
        picture.parent.rmdir()
    camera = Camera(tmp_path, runtime, settings)
    camera.until("failed")
    [event] = [event for event in camera.standing().events if event.is_right is False]
    assert event.reason is InvalidReason.UNREADABLE
    assert str(picture.parent) in str(event.why)
    with pytest.raises(SettingsError, match=r"cameras\.left\.challenge\.bad_images: "):
        challenge_images.check(camera.settings)


def test_too_many_pictures_are_refused(tmp_path: Path, runtime: Path) -> None:
    settings = folders(tmp_path / "known")
    for number in range(challenge_images.MAX_PICTURES):
        (tmp_path / "known" / "bad" / f"{number}.png").touch()
    camera = Camera(tmp_path, runtime, settings)
    with pytest.raises(SettingsError, match="leave 64 at most"):
        challenge_images.check(camera.settings)
    camera.until("failed")


def test_a_bad_master_that_passes_blocks_parts_until_it_fails_as_it_should(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, PARTS)
    assert camera.part(plain(), "MASTER-GOOD") == PASSED
    assert camera.part(plain(), "P-1") == PASSED
    assert camera.part(plain(), "MASTER-BAD") == PASSED
    assert camera.standing().state == "failed"
    assert camera.part(plain(), "P-2") == BLOCKED
    assert camera.part(plain()) == BLOCKED
    assert camera.part(plain(), "MASTER-GOOD") == PASSED
    assert camera.part(plain(), "P-3") == BLOCKED
    assert camera.part(spot(), "MASTER-BAD") == FAILED
    assert camera.standing().state == "passed"
    assert camera.part(plain(), "P-4") == PASSED


def test_parts_behind_a_wrong_master_in_the_same_batch_are_blocked(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, PARTS, inference={"max_batch": 8, "batch_ms": 1000})
    camera.part(plain(), "P-0")  # how long an image takes is known
    before = camera.frame(plain(), part_id="P-1")
    camera.frame(plain(), part_id="MASTER-BAD")
    behind = camera.frame(plain(), part_id="P-2")
    assert camera.inference.turn()
    results = [camera.entry(sequence).result for sequence in (before, behind)]
    assert [r and (r.outcome, r.reason) for r in results] == [
        (Outcome.PASS, None),
        (Outcome.INVALID, InvalidReason.CHALLENGE),
    ]


@pytest.mark.parametrize("how", ["late", "unreadable", "overload"])
def test_a_master_that_could_not_be_judged_fails_the_challenge(
    tmp_path: Path, runtime: Path, how: str
) -> None:
    roi = {"x": 0, "y": 0, "width": 64, "height": 64}
    camera = Camera(tmp_path, runtime, PARTS, roi=roi)
    if how == "overload":
        now = time.monotonic_ns()
        accepted = Accepted(now, time.time_ns(), now + 10**10, "MASTER-GOOD", None)
        sequence = camera.journal.accept(accepted)
        camera.journal.capture(sequence, Captured(InvalidReason.OVERLOAD))
    else:
        pixels = plain() if how == "late" else plain()[:32]
        camera.frame(pixels, 0.0 if how == "late" else 60.0, part_id="MASTER-GOOD")
    camera.until("failed")
    assert camera.standing().events[-1].reason == InvalidReason(how)


def test_a_master_that_was_not_judged_before_this_process_is_told_of_once(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, PARTS)
    now = time.monotonic_ns()
    accepted = Accepted(now, time.time_ns(), now + 10**10, "MASTER-GOOD", None)
    camera.journal.capture(camera.journal.accept(accepted), Captured(InvalidReason.OVERLOAD))
    camera.until("failed")
    camera.ask("clear", why="the belt stood still")
    files = RuntimeFiles(camera.settings.runtime_dir)
    next_one = type(camera.inference)(camera.settings, files)
    next_one.load()
    next_one.turn()
    next_one.challenge(idle=True)
    assert camera.standing().state == "passed"


def test_a_shift_start_that_passed_while_the_agent_was_off_makes_it_due(
    tmp_path: Path, runtime: Path
) -> None:
    path = challenge_file(settings_in(tmp_path).data_dir, "left")
    long_ago = datetime.now(timezone.utc) - timedelta(days=3)
    items = [Item(kind="part", expected="good", name="MASTER-GOOD")]
    items.append(Item(kind="part", expected="bad", name="MASTER-BAD"))
    before = rules.cleared(rules.begun(items, long_ago), long_ago, "anna", "a new line")
    write_standing(path, before)
    camera = Camera(tmp_path, runtime, {**PARTS, "at": ["06:00"]})
    assert camera.standing().state == "passed"
    camera.until("due")
    assert camera.standing().events[-1].why == "shift start 06:00"
    camera.part(plain(), "MASTER-GOOD")
    camera.part(spot(), "MASTER-BAD")
    camera.until("passed")


def test_a_clock_that_was_ahead_when_it_was_due_last_has_it_due_anew(
    tmp_path: Path, runtime: Path
) -> None:
    path = challenge_file(settings_in(tmp_path).data_dir, "left")
    ahead = datetime.now(timezone.utc) + timedelta(days=300)
    items = [Item(kind="part", expected="good", name="MASTER-GOOD")]
    items.append(Item(kind="part", expected="bad", name="MASTER-BAD"))
    write_standing(path, rules.cleared(rules.begun(items, ahead), ahead, "anna", "a new line"))
    camera = Camera(tmp_path, runtime, {**PARTS, "at": ["06:00"], "within_minutes": 0.01})
    camera.until("due")
    assert camera.standing().events[-1].why == rules.CLOCK_SET_BACK
    camera.until("failed")
    camera.part(plain(), "MASTER-GOOD")
    camera.part(spot(), "MASTER-BAD")
    camera.until("passed")


def test_what_is_awaited_by_a_clock_that_was_ahead_is_not_awaited_until_then(
    tmp_path: Path, runtime: Path
) -> None:
    path = challenge_file(settings_in(tmp_path).data_dir, "left")
    items = [Item(kind="part", expected="good", name="MASTER-GOOD")]
    items.append(Item(kind="part", expected="bad", name="MASTER-BAD"))
    ahead = datetime.now(timezone.utc) + timedelta(days=300)
    write_standing(path, rules.begun(items, ahead))
    camera = Camera(tmp_path, runtime, {**PARTS, "within_minutes": 0.01})
    camera.until("failed")


def test_what_does_not_come_in_time_blocks_parts(tmp_path: Path, runtime: Path) -> None:
    camera = Camera(tmp_path, runtime, {**PARTS, "within_minutes": 1e-4})
    camera.until("failed")
    assert camera.part(plain(), "P-1") == BLOCKED
    camera.part(plain(), "MASTER-GOOD")
    camera.part(spot(), "MASTER-BAD")
    assert camera.part(plain(), "P-2") == PASSED


def test_a_person_has_the_camera_judge_on_and_that_is_kept(tmp_path: Path, runtime: Path) -> None:
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known", bad=plain()))
    camera.until("failed")
    camera.ask("clear", "m.weber", "the picture is of another part")
    assert camera.part(plain()) == PASSED
    event = camera.standing().events[-1]
    assert (event.what, event.who) == ("cleared", "m.weber")
    camera.ask("run")
    camera.until("failed")


def test_an_altered_threshold_has_the_pictures_judged_anew(tmp_path: Path, runtime: Path) -> None:
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known"))
    camera.until("passed")
    left = camera.settings.cameras["left"].model_copy(update={"threshold": 0.999})
    camera.inference.take_over(camera.settings.model_copy(update={"cameras": {"left": left}}))
    camera.until("failed")
    assert [e.what for e in camera.standing().events].count("due") == 2


def test_while_frames_wait_a_picture_is_judged_now_and_then_alone(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, folders(tmp_path / "known"))
    judged = []
    for _ in range(4 * EVERY):
        sequence = camera.frame(plain())
        assert camera.inference.turn()
        judged.append(camera.inference.challenge(idle=False))
        camera.journal.commit(sequence)
        time.sleep(0.002)  # for the reading thread; a frame takes longer
    assert 1 <= sum(judged) <= 2
    assert all(b - a >= EVERY for a, b in pairwise(i for i, was in enumerate(judged) if was))


def test_a_disk_that_takes_nothing_does_not_let_a_failed_camera_judge_on(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenger, "RETRY_S", 0.05)
    camera = Camera(tmp_path, runtime, PARTS)
    folder = camera.settings.data_dir / "challenges"
    folder.rename(folder.with_name("aside"))
    folder.write_text("a file in the way")
    assert camera.part(plain(), "MASTER-BAD") == PASSED
    assert camera.part(plain(), "P-1") == BLOCKED
    folder.unlink()
    wait_until(lambda: _look(camera) and (folder / "left.json").exists(), 10, "never kept")
    assert camera.standing().state == "failed"


def _look(camera: Camera) -> bool:
    camera.inference.challenge(idle=True)
    return True


def test_a_request_that_is_none_is_put_away(tmp_path: Path, runtime: Path) -> None:
    camera = Camera(tmp_path, runtime, PARTS)
    path = RuntimeFiles(camera.settings.runtime_dir).challenge_request("left")
    path.write_text('{"what": "pass everything"}')
    wait_until(lambda: _look(camera) and not path.exists(), 10, "still there")
    assert camera.standing().state == "due"


def test_a_file_that_cannot_be_read_makes_the_challenge_due(tmp_path: Path, runtime: Path) -> None:
    path = settings_in(tmp_path).data_dir / "challenges" / "left.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    camera = Camera(tmp_path, runtime, PARTS)
    assert camera.standing().state == "due"


def test_a_killed_process_that_had_failed_judges_no_part_afterwards(
    tmp_path: Path, runtime: Path
) -> None:
    camera = Camera(tmp_path, runtime, PARTS)
    resolved = runtime / "settings.json"
    resolved.write_text(camera.settings.model_dump_json())

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "ssn_agent.inference.process", str(resolved)]
        return subprocess.Popen([*command, str(os.getpid())])

    def result_of(pixels: Pixels, part_id: str) -> tuple[Outcome, InvalidReason | None]:
        sequence = camera.frame(pixels, part_id=part_id)
        wait_until(lambda: camera.entry(sequence).result is not None, 20, "no result")
        result = camera.entry(sequence).result
        assert result is not None
        return result.outcome, result.reason

    process = start()
    try:
        assert result_of(plain(), "MASTER-BAD") == (Outcome.PASS, None)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert camera.standing().state == "failed"  # before the result was one
        process = start()
        blocked = (Outcome.INVALID, InvalidReason.CHALLENGE)
        assert result_of(plain(), "P-1") == blocked
        assert result_of(spot(), "MASTER-BAD") == (Outcome.FAIL, None)
        assert result_of(plain(), "P-2") == blocked  # the good one is still to come
        assert result_of(plain(), "MASTER-GOOD") == (Outcome.PASS, None)
        assert result_of(plain(), "P-3") == (Outcome.PASS, None)
    finally:
        process.kill()
        process.wait()
