"""Every kind of source: frames in order and in true colours, or an error that names the source."""

import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.drivers.choice import make_camera
from ssn_agent.capture.drivers.drawn import DrawnCamera
from ssn_agent.capture.drivers.files import FolderCamera
from ssn_agent.capture.drivers.pace import Pace
from ssn_agent.capture.drivers.video import VideoCamera
from ssn_agent.capture.settings import FolderSource, LineSource, VideoSource
from ssn_agent.errors import CameraEnded, CameraError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int], height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Return an RGB picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def write_image(path: Path, colour: tuple[int, int, int] = RED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, plain(colour)[:, :, ::-1])[1]
    path.write_bytes(encoded.tobytes())


def taken(camera: Camera) -> Frame:
    """Return the next frame of a source that has one."""
    frame = camera.next_frame(0.5)
    assert frame is not None
    return frame


def frames(camera: Camera) -> list[Frame]:
    """Take all frames of a source that ends."""
    found: list[Frame] = []
    camera.open()
    while True:
        try:
            found.append(taken(camera))
        except CameraEnded:
            camera.close()
            return found


def colour(frame: Frame) -> tuple[int, int, int]:
    """Return the mean colour, each channel as fully on or off."""
    assert frame.pixels is not None
    assert frame.pixels.ndim == 3
    red, green, blue = (255 * int(v > 127) for v in frame.pixels.mean(axis=(0, 1)))
    return red, green, blue


# Folders.


def test_images_come_in_the_order_of_their_names_with_their_path_as_part_id(
    tmp_path: Path,
) -> None:
    for name in ("b/1.png", "a/2.png", "a/10.png", "c.JPG"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = frames(FolderCamera(FolderSource(path=tmp_path)))
    assert [f.part_id for f in found] == ["a/10.png", "a/2.png", "b/1.png", "c.JPG"]


def test_a_folder_gives_red_as_red_and_gray_as_gray(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", RED)
    gray = cv2.imencode(".png", np.full((8, 9), 77, np.uint8))[1]
    (tmp_path / "2.png").write_bytes(gray.tobytes())
    first, second = frames(FolderCamera(FolderSource(path=tmp_path)))
    assert colour(first) == RED
    assert second.pixels is not None
    assert (second.pixels.shape, int(second.pixels[0, 0])) == ((8, 9), 77)


def test_an_image_that_cannot_be_read_is_a_part_without_pixels_and_the_next_one_follows(
    tmp_path: Path,
) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    write_image(tmp_path / "2.png")
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "4.png").symlink_to(tmp_path / "gone.png")
    write_image(tmp_path / "5.png")
    found = frames(FolderCamera(FolderSource(path=tmp_path)))
    assert [f.pixels is None for f in found] == [True, False, True, True, False]
    assert [f.part_id for f in found] == [f"{i}.png" for i in range(1, 6)]


def test_a_file_whose_name_is_no_text_is_judged_like_any_other(tmp_path: Path) -> None:
    write_image(tmp_path / "ok.png")
    target = bytes(tmp_path) + b"/\xff\xfe.png"
    Path(target.decode(errors="surrogateescape")).write_bytes((tmp_path / "ok.png").read_bytes())
    found = frames(FolderCamera(FolderSource(path=tmp_path)))
    assert [f.part_id for f in found] == ["ok.png", "??.png"]
    assert all(f.pixels is not None for f in found)


def test_of_a_path_longer_than_a_part_id_the_end_is_kept(tmp_path: Path) -> None:
    write_image(tmp_path / ("d" * 100) / ("e" * 50) / "ä1.png")
    (found,) = frames(FolderCamera(FolderSource(path=tmp_path)))
    assert found.part_id is not None
    assert len(found.part_id) == 120
    assert found.part_id.endswith("e" * 50 + "/ä1.png")


def test_a_folder_named_like_an_image_is_no_image(tmp_path: Path) -> None:
    write_image(tmp_path / "batch.png" / "1.png")
    assert [f.part_id for f in frames(FolderCamera(FolderSource(path=tmp_path)))] == [
        "batch.png/1.png"
    ]


def test_a_folder_that_loops_begins_again_and_takes_up_new_images(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png")
    camera = FolderCamera(FolderSource(path=tmp_path, loop=True))
    camera.open()
    assert taken(camera).part_id == "1.png"
    write_image(tmp_path / "2.png")
    assert [taken(camera).part_id for _ in range(3)] == ["1.png", "2.png", "1.png"]


@pytest.mark.parametrize("made", [None, "empty", "file"])
def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path: Path, made: str | None) -> None:
    path = tmp_path / "images"
    if made == "empty":
        path.mkdir()
        (path / "readme.txt").write_text("nothing here")
    if made == "file":
        path.write_text("a file")
    with pytest.raises(CameraError, match="images"):
        FolderCamera(FolderSource(path=path)).open()


def test_a_file_source_waits_unless_it_has_a_rate(tmp_path: Path) -> None:
    assert FolderCamera(FolderSource(path=tmp_path)).waits
    assert not FolderCamera(FolderSource(path=tmp_path, fps=5)).waits
    assert VideoCamera(VideoSource(path=tmp_path)).waits
    assert not make_camera(LineSource()).waits


# Video files.


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for tint in (RED, GREEN, BLUE):
        writer.write(np.ascontiguousarray(plain(tint)[:, :, ::-1]))
    writer.release()
    return path


def test_a_video_gives_its_frames_in_order_and_in_true_colours_and_then_ends(video: Path) -> None:
    found = frames(VideoCamera(VideoSource(path=video)))
    assert [colour(f) for f in found] == [RED, GREEN, BLUE]


def test_a_video_that_loops_begins_again(video: Path) -> None:
    camera = VideoCamera(VideoSource(path=video, loop=True))
    camera.open()
    assert [colour(taken(camera)) for _ in range(5)] == [RED, GREEN, BLUE, RED, GREEN]
    camera.close()


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 99])
def test_a_video_that_is_not_there_or_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "line.mp4"
    if content is not None:
        path.write_bytes(content)
    camera = VideoCamera(VideoSource(path=path, loop=True))
    with pytest.raises(CameraError, match=r"line\.mp4") as caught:  # noqa: PT012 -- either may tell
        camera.open()
        taken(camera)
    assert not isinstance(caught.value, CameraEnded)
    camera.close()


def test_reading_a_camera_that_is_closed_is_an_error_and_closing_it_again_is_none(
    video: Path,
) -> None:
    camera = VideoCamera(VideoSource(path=video))
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        taken(camera)


# Triggers.


@pytest.mark.parametrize("kind", ["folder", "video", "line"])
def test_each_trigger_takes_the_next_picture_of_a_file_or_a_drawn_line_and_nobody_else_does(
    kind: str, video: Path, tmp_path: Path
) -> None:
    for number, tint in enumerate((RED, GREEN, BLUE)):
        write_image(tmp_path / f"{number}.png", tint)
    made: dict[str, Camera] = {
        "folder": FolderCamera(FolderSource(path=tmp_path, trigger="software")),
        "video": VideoCamera(VideoSource(path=video, trigger="software")),
        "line": DrawnCamera(LineSource(fps=100, trigger="software")),
    }
    with closing(made[kind]) as camera:
        camera.open()
        camera.arm()
        assert camera.next_frame(0.001) is None
        found = []
        for _ in range(2):
            camera.trigger()
            found.append(taken(camera))
            assert camera.next_frame(0.02) is None
        if kind == "line":
            assert [frame.frame_id for frame in found] == [0, 1]
        else:
            assert [colour(frame) for frame in found] == [RED, GREEN]
        camera.trigger()
        camera.arm()  # the trigger has had its time
        assert camera.next_frame(0.001) is None


# The rate.


def test_frames_come_at_the_rate_and_work_between_them_does_not_slow_it() -> None:
    pace = Pace(100)
    starts = []
    for _ in range(12):
        assert pace.wait(1)
        starts.append(time.monotonic())
        sum(range(20_000))  # some work, shorter than a period
    assert all(later - earlier > 0 for earlier, later in pairwise(starts))
    assert starts[-1] - starts[0] >= 11 * 0.01 - 0.002


def test_after_a_delay_the_rate_goes_on_from_then_without_a_burst() -> None:
    pace = Pace(50)
    assert pace.wait(1)
    time.sleep(0.1)  # five frames' time
    starts = []
    for _ in range(4):
        assert pace.wait(1)
        starts.append(time.monotonic())
    assert starts[-1] - starts[0] >= 3 * 0.02 - 0.002


def test_a_frame_that_is_due_after_the_wait_is_not_waited_for() -> None:
    pace = Pace(2)
    assert pace.wait(0)
    before = time.monotonic()
    assert not pace.wait(0.02)
    assert 0.02 <= time.monotonic() - before < 0.3


def test_without_a_rate_there_is_no_wait() -> None:
    pace = Pace(None)
    before = time.monotonic()
    for _ in range(1000):
        assert pace.wait(1)
    assert time.monotonic() - before < 0.5
