"""A watched folder: every image that comes is one part, whole, in order, and never twice."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.drivers import watched
from ssn_agent.capture.drivers.watched import WatchedFolder
from ssn_agent.capture.settings import FolderSource
from ssn_agent.errors import CameraError
from ssn_agent.frames.pixels import Pixels
from support.capture import CaptureProcess, capture_process
from support.judging import Judge
from support.waiting import wait_until


def image(number: int) -> bytes:
    """Return a PNG that shows a number."""
    return cv2.imencode(".png", np.full((24, 32), number, np.uint8))[1].tobytes()


def number_of(pixels: Pixels) -> int:
    assert pixels.min() == pixels.max()
    return int(pixels[0, 0])


def watching(folder: Path, *counted: tuple[str, str]) -> WatchedFolder:
    camera = WatchedFolder(FolderSource(path=folder, watch=True), counted)
    camera.open()
    camera.arm()
    return camera


def come(camera: WatchedFolder, within_s: float = 0.6) -> list[Frame]:
    """Return what comes until nothing has come for a while."""
    found: list[Frame] = []
    while True:
        frame = camera.next_frame(within_s)
        if frame is None:
            return found
        found.append(frame)


def names(frames: list[Frame]) -> list[str | None]:
    return [frame.part_id for frame in frames]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drop"
    made.mkdir()
    return made


@pytest.fixture
def capture(tmp_path: Path, folder: Path) -> Iterator[CaptureProcess]:
    source = {"kind": "folder", "path": str(folder), "watch": True}
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), source=source, capacity=256) as made,
    ):
        yield made


class Senders:
    """Two cameras that drop images: one writes in place and slowly, the other renames."""

    def __init__(self, folder: Path, each: int) -> None:
        self._folder = folder
        self._each = each
        self._finishing = threading.Lock()
        self.finished: list[str] = []
        """In this order."""
        self._threads = [threading.Thread(target=f) for f in (self._renames, self._writes)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _renames(self) -> None:
        for number in range(self._each):
            partial = self._folder / f"r{number:03d}.part"
            partial.write_bytes(image(number))
            with self._finishing:
                partial.rename(self._folder / f"r{number:03d}.png")
                self._note(f"r{number:03d}.png")
            time.sleep(0.04)

    def _writes(self) -> None:
        below = self._folder / "in place"
        for number in range(self._each):
            below.mkdir(exist_ok=True)  # appears while the folder is watched
            data = image(100 + number)
            with (below / f"a{number:03d}.png").open("wb", buffering=0) as file:
                file.write(data[:20])
                time.sleep(0.4 if number % 10 == 3 else 0.02)  # longer than a file has to rest
                file.write(data[20:60])
                time.sleep(0.02)
                with self._finishing:
                    file.write(data[60:])
                    self._note(f"in place/a{number:03d}.png")

    def _note(self, name: str) -> None:
        self.finished.append(name)
        time.sleep(0.01)  # a file system's clock ticks by 4 ms


def test_fifty_images_written_slowly_or_renamed_are_each_one_record_in_the_order_of_finishing(
    capture: CaptureProcess, folder: Path
) -> None:
    (folder / "old.png").write_bytes(image(250))
    judge = Judge(capture, number_of)
    capture.start()
    wait_until(lambda: "watching" in capture.log(), 20, "does not start")
    senders = Senders(folder, 25)
    senders.start()
    wait_until(lambda: len(judge.turn()) == 50, 20, "not all images are parts")
    senders.wait()
    parts = [judge.parts[number] for number in sorted(judge.parts)]
    assert [part.entry.accepted.part_id for part in parts] == senders.finished
    for part in parts:
        name = str(part.entry.accepted.part_id)
        expected = int(name[-7:-4]) + (100 if name.startswith("in place") else 0)
        assert (part.reason, part.seen) == (None, expected)
    assert len(list(folder.rglob("*.png"))) == 51  # nothing is deleted or moved


def test_over_kills_of_the_process_no_image_is_lost_and_none_is_a_part_twice(
    capture: CaptureProcess, folder: Path
) -> None:
    (folder / "old.png").write_bytes(image(250))
    judge = Judge(capture, number_of)
    capture.start()
    wait_until(lambda: "watching" in capture.log(), 20, "does not start")
    senders = Senders(folder, 25)
    senders.start()
    for enough in (3, 15):
        wait_until(lambda enough=enough: len(judge.turn()) >= enough, 20, "no parts")  # type: ignore[misc]  # bound at once
        capture.kill()
        capture.start()
    senders.wait()
    wait_until(lambda: len(judge.turn()) >= 50, 20, "not all images are parts")
    assert not wait_a_moment_for_more(judge)
    found = [part.entry.accepted.part_id for part in judge.parts.values()]
    assert sorted(map(str, found)) == sorted(senders.finished)


def wait_a_moment_for_more(judge: Judge[int]) -> bool:
    ends_s = time.monotonic() + 3 * watched.SETTLE_S
    while time.monotonic() < ends_s:
        if len(judge.turn()) > 50:
            return True
        time.sleep(0.01)
    return False


def test_what_was_there_is_old_and_what_comes_while_the_folder_is_away_or_closed_is_not_lost(
    folder: Path,
) -> None:
    (folder / "old.png").write_bytes(image(1))
    camera = watching(folder)
    assert come(camera) == []
    (folder / "1.png").write_bytes(image(2))
    assert names(come(camera)) == ["1.png"]
    away = folder.rename(folder.with_name("away"))
    with pytest.raises(CameraError, match="drop"):
        come(camera)
    camera.close()
    folder.mkdir()  # the empty folder that a drive is mounted on
    camera.open()
    assert come(camera) == []
    folder.rmdir()
    (away / "2.png").write_bytes(image(3))
    away.rename(folder)
    camera.open()
    assert names(come(camera)) == ["2.png"]


def test_another_process_takes_what_is_newer_than_the_newest_that_was_counted(folder: Path) -> None:
    camera = watching(folder)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image(number))
    counted = [(str(f.part_id), str(f.trigger_id)) for f in come(camera)]
    (folder / "3.png").write_bytes(image(3))
    os.utime(folder / "3.png", (1, 1))  # as some servers do, to keep the camera's own time
    foreign = ("P-0815", "an id that some program gave"), ("P-1", "file 1 of 3")
    again = watching(folder, *counted, *foreign)
    assert names(come(again)) == ["3.png"]


def test_an_image_that_stays_damaged_is_a_part_without_a_picture_and_holds_nothing_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "GIVE_UP_S", 1.5)
    camera = watching(folder)
    (folder / "1.png").write_bytes(image(1)[:40])
    (folder / "2.png").write_bytes(b"")
    (folder / "3.png").write_bytes(image(3))
    assert names(come(camera)) == ["3.png"]
    (folder / "2.png").write_bytes(image(2))
    frames = come(camera, 1.6)
    assert names(frames) == ["2.png", "1.png"]
    assert [frame.pixels is None for frame in frames] == [False, True]
    assert "truncated" in frames[1].problem


def test_a_name_that_is_used_again_is_another_part_and_a_moved_or_touched_file_is_none(
    folder: Path,
) -> None:
    camera = watching(folder)
    (folder / "1.png").write_bytes(image(1))
    assert names(come(camera)) == ["1.png"]
    (folder / "1.png").write_bytes(image(2))
    (again,) = come(camera)
    assert again.pixels is not None
    assert (again.part_id, number_of(again.pixels)) == ("1.png", 2)
    (folder / "judged").mkdir()
    (folder / "1.png").rename(folder / "judged" / "1.png")
    (folder / "judged" / "1.png").chmod(0o600)
    assert come(camera) == []


def test_a_finished_image_that_is_deleted_before_its_turn_is_a_part_without_a_picture(
    folder: Path,
) -> None:
    camera = watching(folder)
    for number in (1, 2, 3):
        (folder / f"{number}.png").write_bytes(image(number))
        time.sleep(0.01)
    first = camera.next_frame(2)
    assert first is not None
    (folder / "2.png").unlink()
    frames = [first, *come(camera)]
    assert names(frames) == ["1.png", "2.png", "3.png"]
    assert [frame.pixels is None for frame in frames] == [False, True, False]


def test_hidden_files_other_files_and_links_in_a_circle_are_no_parts(folder: Path) -> None:
    camera = watching(folder)
    (folder / ".1.png").write_bytes(image(1))
    (folder / "1.png.part").write_bytes(image(1))
    (folder / "notes.txt").write_text("no image")
    (folder / "circle.png").symlink_to(folder)
    (folder / "nothing.png").symlink_to(folder / "gone")
    (folder / "batch.png").mkdir()
    (folder / "batch.png" / "1.JPG").write_bytes(
        cv2.imencode(".jpg", np.full((24, 32), 9, np.uint8))[1].tobytes()
    )
    assert names(come(camera)) == ["batch.png/1.JPG"]


def test_a_part_is_as_old_as_its_file_and_not_as_its_reading(folder: Path) -> None:
    camera = watching(folder)
    before_ns = time.monotonic_ns()
    with (folder / "1.png").open("wb", buffering=0) as file:
        file.write(image(1)[:40])
        after_ns = time.monotonic_ns()
        assert come(camera, 0.3) == []
        file.write(image(1)[40:])
    (frame,) = come(camera)
    assert before_ns - 10e6 <= frame.captured.monotonic_ns <= after_ns + watched.LOOK_S * 2e9


def test_a_folder_of_ten_thousand_images_is_looked_at_as_often_as_that_costs_little() -> None:
    with tempfile.TemporaryDirectory(prefix="ssn-", dir="/dev/shm") as memory:  # fast to fill
        folder = Path(memory)
        for number in range(10_000):
            (folder / f"{number}.png").touch()
        camera = watching(folder)
        (folder / "new.png").write_bytes(image(1))
        before_s, began_s = time.process_time(), time.monotonic()
        frame = camera.next_frame(15)
        assert frame is not None
        assert frame.part_id == "new.png"
        used = (time.process_time() - before_s) / (time.monotonic() - began_s)
        assert used < 2 * watched.LOOKS_SHARE
