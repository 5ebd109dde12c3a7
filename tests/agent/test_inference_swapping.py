"""A followed bundle takes over between two frames; where it cannot, what judged goes on judging."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import UpdateError
from ssn_agent.frames.heartbeat import Heartbeat, beat_due_at
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference import judges, loading
from ssn_agent.inference.engines.available import why_not
from ssn_agent.inference.model import Model
from ssn_agent.inference.swapping import Swapped, Wanted, read_swapped
from ssn_agent.updates.state import ModelsState
from ssn_contract.messages import InvalidReason
from support.bundles import SIZE, write_brightness_bundle
from support.followed import stored, want
from support.products import Cameras
from support.waiting import wait_until

DARK = np.full((SIZE, SIZE), 20, np.uint8)
FOLLOW = "brightness"
Opens = Callable[[Wanted], Bundle]


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


class Box:
    """A camera that follows a name, three bundles of that name, and inference."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder, self.runtime = folder, runtime
        names = {"own": "1.0.0", "a": "2.0.0", "b": "3.0.0"}
        self.bundles = {
            name: write_brightness_bundle(folder / f"{name}.ssn", version=version)
            for name, version in names.items()
        }
        self.digests = {name: Bundle.open(path).digest for name, path in self.bundles.items()}
        self.files = RuntimeFiles(runtime)
        self.models_file = folder / "data" / "models.json"
        self.models_file.parent.mkdir()
        self.camera: dict[str, Any] = {"bundle": self.bundles["own"], "follow": FOLLOW}

    def want(self, in_force: str | None, before: str | None = None) -> None:
        """Decide, as the updates process does."""
        chosen = [
            None if name is None else stored(self.bundles[name]) for name in (in_force, before)
        ]
        want(self.models_file, FOLLOW, chosen[0], chosen[1])

    def start(self, **inference: Any) -> Cameras:
        return Cameras(self.folder, self.runtime, {"left": self.camera}, **inference)

    @property
    def note(self) -> Swapped | None:
        return read_swapped(self.files.swapped(FOLLOW))

    def says(self, name: str | None) -> bool:
        """Say whether the note names that bundle, and no problem."""
        digest = None if name is None else self.digests[name]
        return self.note == Swapped(digest=digest, problem=None)


@pytest.fixture
def box(tmp_path: Path, runtime: Path) -> Box:
    return Box(tmp_path, runtime)


def judged_by(cameras: Cameras) -> str:
    """Return the digest of what judges the next frame."""
    result = cameras.result(cameras.frame("left", DARK))
    assert result.outcome is Outcome.PASS
    return result.bundle_digest


def until(cameras: Cameras, box: Box, name: str) -> None:
    """Serve until the note names a bundle."""

    def swapped() -> bool:
        cameras.inference.load()
        cameras.inference.search()
        cameras.inference.turn()
        return box.says(name)

    wait_until(swapped, 30, f"{name} does not take over: {box.note}")


def test_what_is_in_force_judges_from_the_start_and_the_settings_bundle_where_nothing_is(
    box: Box,
) -> None:
    assert judged_by(box.start()) == box.digests["own"]
    assert box.says("own")
    box.want("a")
    assert judged_by(box.start()) == box.digests["a"]
    assert box.says("a")


@pytest.mark.parametrize("wrong", ["absent", "damaged", "replaced", "other scores"])
@pytest.mark.parametrize("before", ["b", None])
def test_where_it_does_not_open_or_reproduce_what_was_before_it_judges_and_the_note_says_why(
    box: Box, wrong: str, before: str | None
) -> None:
    box.want("a", before)
    path = box.bundles["a"]
    if wrong == "absent":
        path.unlink()
    if wrong == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    if wrong == "replaced":
        write_brightness_bundle(path, version="9.9.9")
    if wrong == "other scores":
        vectors = [{"image": "vectors/0.png", "score": 0.9, "map": "vectors/0.f32"}]
        write_brightness_bundle(path, vectors=vectors)
        box.want("a", before)
    cameras = box.start()
    judges_now = box.digests[before or "own"]
    assert judged_by(cameras) == judges_now
    assert box.note is not None
    assert box.note.digest == judges_now
    assert box.note.problem is not None
    assert "a.ssn" in box.note.problem
    note = cameras.note("left")
    assert (note.bundle_digest, "a.ssn" in note.message) == (judges_now, True)


def test_a_state_that_cannot_be_read_leaves_the_settings_bundles_judging_with_an_alarm(
    box: Box,
) -> None:
    box.models_file.write_text("{")
    cameras = box.start()
    assert judged_by(cameras) == box.digests["own"]
    assert "models.json" in cameras.note("left").message
    box.want("a")
    until(cameras, box, "a")
    assert cameras.note("left").message == ""


def test_what_judges_goes_on_where_the_state_cannot_be_read_any_more(box: Box) -> None:
    box.want("a")
    cameras = box.start()
    assert judged_by(cameras) == box.digests["a"]
    box.models_file.write_text("{")
    cameras.inference.load()
    assert judged_by(cameras) == box.digests["a"]
    assert "models.json" in cameras.note("left").message


def test_a_state_that_can_be_read_again_is_taken_up_though_nobody_writes_it_anew(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "REREAD_S", 0.0)
    box.want("a")

    def no_files(path: Path) -> ModelsState:
        raise UpdateError(f"{path}: cannot be read (Too many open files)")

    with monkeypatch.context() as away:
        away.setattr(judges, "read_state", no_files)
        cameras = box.start()
        assert judged_by(cameras) == box.digests["own"]
        assert "Too many open files" in cameras.note("left").message
    until(cameras, box, "a")
    assert cameras.note("left").message == ""


def test_what_judges_is_noted_once_the_folder_takes_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "REREAD_S", 0.0)
    cameras = box.start()

    def full(path: Path, _: Swapped) -> None:
        raise UpdateError(f"{path}: cannot be written (No space left on device)")

    with monkeypatch.context() as away:
        away.setattr(judges, "write_swapped", full)
        box.want("a")
        wait_until(lambda: takes_over(cameras, box, "a"), 30, "a does not take over")
        assert box.says("own")
    until(cameras, box, "a")


def takes_over(cameras: Cameras, box: Box, name: str) -> bool:
    """Serve, and say whether a bundle judges, noted or not."""
    cameras.inference.load()
    return cameras.note("left").bundle_digest == box.digests[name]


def test_serving_goes_on_while_a_bundle_is_loaded_and_the_next_frame_after_the_note_is_its(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = box.start()
    goes_on, begun = threading.Event(), threading.Event()

    def slow(wanted: Wanted, opened: Opens = loading.open_bundle) -> Bundle:
        begun.set()
        assert goes_on.wait(20)
        return opened(wanted)

    monkeypatch.setattr(loading, "open_bundle", slow)
    box.want("a")
    cameras.inference.load()
    assert begun.wait(20)
    for _ in range(3):
        cameras.inference.load()
        assert judged_by(cameras) == box.digests["own"]
        assert box.says("own")
    goes_on.set()
    until(cameras, box, "a")
    assert judged_by(cameras) == box.digests["a"]
    assert cameras.note("left").bundle_digest == box.digests["a"]


def test_a_load_that_fails_leaves_what_judges_and_is_told_once_and_is_not_tried_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "REOPEN_BUNDLE_S", 0.0)
    cameras = box.start()
    box.want("a")
    box.bundles["a"].unlink()

    def told() -> bool:
        cameras.inference.load()
        return box.note is not None and box.note.problem is not None

    wait_until(told, 20, "nothing is said")
    assert box.note is not None
    assert box.note.digest == box.digests["own"]
    assert judged_by(cameras) == box.digests["own"]
    assert "a.ssn" in cameras.note("left").message
    stamp = box.files.swapped(FOLLOW).stat().st_mtime_ns
    for _ in range(20):
        cameras.inference.load()
    assert box.files.swapped(FOLLOW).stat().st_mtime_ns == stamp
    box.want(None)  # gone back
    until(cameras, box, "own")


def test_what_judges_already_is_not_loaded_again_and_who_asks_anew_is_answered(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = box.start()
    model = Model.__init__
    made: list[None] = []

    def noted(*arguments: Any) -> None:
        made.append(None)
        model(*arguments)

    monkeypatch.setattr(Model, "__init__", noted)
    box.files.swapped(FOLLOW).unlink()
    box.want("own")
    cameras.inference.load()
    assert box.says("own")
    assert made == []


def test_a_load_that_takes_too_long_is_given_up(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = box.start()
    goes_on = threading.Event()
    monkeypatch.setattr(loading, "LIMIT_S", 0.0)
    monkeypatch.setattr(loading, "open_bundle", lambda _: goes_on.wait(20))
    box.want("a")
    cameras.inference.load()
    cameras.inference.load()
    assert box.note is not None
    assert box.note.digest == box.digests["own"]
    assert "given up" in str(box.note.problem)
    goes_on.set()
    assert judged_by(cameras) == box.digests["own"]


def test_of_two_that_are_wanted_one_after_the_other_the_newer_one_judges(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = box.start()
    goes_on = threading.Event()
    notes: list[str | None] = []

    def slow(wanted: Wanted, opened: Opens = loading.open_bundle) -> Bundle:
        assert goes_on.wait(20)
        return opened(wanted)

    monkeypatch.setattr(loading, "open_bundle", slow)
    box.want("a")
    cameras.inference.load()
    box.want("b")
    cameras.inference.load()
    goes_on.set()

    def swapped() -> bool:
        cameras.inference.load()
        notes.append(None if box.note is None else box.note.digest)
        return box.says("b")

    wait_until(swapped, 30, "b does not take over")
    assert set(notes) == {box.digests["own"], box.digests["b"]}


def test_a_load_does_not_beat_for_the_main_loop(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = box.start()
    beats: list[threading.Thread] = []
    beat = Heartbeat.beat

    def noted(self: Heartbeat, *within_s: float) -> None:
        beats.append(threading.current_thread())
        beat(self, *within_s)

    monkeypatch.setattr(Heartbeat, "beat", noted)
    box.want("a")
    until(cameras, box, "a")
    assert set(beats) == {threading.main_thread()}
    due = beat_due_at(box.files.heartbeat("inference"))
    assert due is not None
    assert due - time.monotonic() < 10


@pytest.mark.skipif(why_not("openvino/fp32") is not None, reason=str(why_not("openvino/fp32")))
def test_it_takes_over_on_the_engine_it_is_to_have_and_not_on_the_slow_reference(box: Box) -> None:
    cameras = box.start(engine="openvino/fp32")
    box.want("a")

    def swapped() -> bool:
        cameras.inference.load()
        result = cameras.result(cameras.frame("left", DARK))
        is_new = result.bundle_digest == box.digests["a"]
        assert result.engine == "openvino/fp32" or not is_new
        return is_new

    wait_until(swapped, 30, "a does not take over")


def test_the_old_model_is_let_go(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    close = Model.close

    def noted(self: Model) -> None:
        closed.append(self.digest)
        close(self)

    monkeypatch.setattr(Model, "close", noted)
    cameras = box.start()
    box.want("a")
    until(cameras, box, "a")
    assert closed == [box.digests["own"]]


def test_where_nothing_is_wanted_any_more_nothing_judges(box: Box) -> None:
    box.camera.pop("bundle")
    box.want("a")
    cameras = box.start()
    assert judged_by(cameras) == box.digests["a"]
    box.want(None)
    cameras.inference.load()
    result = cameras.result(cameras.frame("left", DARK))
    assert result.reason is InvalidReason.NO_MODEL
    assert box.note is not None
    assert box.note.digest is None


def test_that_nothing_is_wanted_yet_is_no_problem_with_what_is_wanted_next(box: Box) -> None:
    box.camera.pop("bundle")
    cameras = box.start()
    assert box.says(None)
    assert "no bundle is set" in cameras.note("left").message


def test_a_name_has_not_swapped_while_one_of_its_cameras_has_not(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {
        "left": {"follow": FOLLOW, "bundle": box.bundles["a"]},
        "right": {"follow": FOLLOW, "bundle": box.bundles["own"]},
    }
    cameras = Cameras(box.folder, box.runtime, both)
    goes_on = threading.Event()

    def slow(wanted: Wanted, opened: Opens = loading.open_bundle) -> Bundle:
        assert goes_on.wait(20)
        return opened(wanted)

    monkeypatch.setattr(loading, "open_bundle", slow)
    box.want("a")
    cameras.inference.load()
    assert box.says("own")
    goes_on.set()
    until(cameras, box, "a")
    assert cameras.note("right").bundle_digest == box.digests["a"]


def test_the_first_bundle_of_a_name_is_taken_up_while_the_camera_serves_without_one(
    box: Box,
) -> None:
    box.camera.pop("bundle")
    cameras = box.start()
    assert cameras.result(cameras.frame("left", DARK)).reason is InvalidReason.NO_MODEL
    box.want("a")
    until(cameras, box, "a")
    assert judged_by(cameras) == box.digests["a"]


def test_all_cameras_and_products_that_follow_a_name_swap_at_once_and_share_batches(
    box: Box,
) -> None:
    both = {
        "left": {**box.camera, "products": {"nut": box.camera}},
        "right": {"follow": FOLLOW, "bundle": box.bundles["own"]},
    }
    cameras = Cameras(box.folder, box.runtime, both)
    box.want("a")
    until(cameras, box, "a")
    for camera, product in (("left", None), ("left", "nut"), ("right", None)):
        result = cameras.result(cameras.frame(camera, DARK, product=product))
        assert result.bundle_digest == box.digests["a"]
