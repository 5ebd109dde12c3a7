"""`ssn-agent camera`: what a person at a line is told, and that no file or camera is taken away."""

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import structlog
from numpy.typing import NDArray

from ssn_agent import cli
from ssn_agent.capture.camera import Camera, Description, Found, Frame, FrameIds
from ssn_agent.capture.settings import BaslerSource, GigeSource, Region
from ssn_agent.commissioning import finding
from ssn_agent.commissioning.bench import Bench
from ssn_agent.commissioning.picture import Picture, incomplete
from ssn_agent.commissioning.session import Chosen, opened, take_whole
from ssn_agent.commissioning.words import described, measured, pasteable
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import decode_image
from ssn_agent.settings import described_camera, load_settings, read_resolved
from support.bundles import write_brightness_bundle
from support.mosquitto import free_port
from support.rtsp import HEIGHT, WIDTH, network_camera
from support.scenes import GOOD, scene, with_gain
from support.scripted import Script
from support.waiting import wait_until

Result = tuple[int, str, str]
LINE = ("--source", "kind=line", "--source", "fps=50")
GRAY = np.full((6, 8), 100, np.uint8)


@pytest.fixture
def camera_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Run `ssn-agent camera`; return exit code, standard output and standard error."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ssn-agent", "camera", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        assert "Traceback" not in err
        return code or 0, out, err

    hooks = sys.excepthook, threading.excepthook
    yield run
    structlog.reset_defaults()
    sys.excepthook, threading.excepthook = hooks


def images(folder: Path, count: int, value: int | None = None) -> list[NDArray[np.uint8]]:
    """Write and return gray pictures, of one value or of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    made = [rng.integers(0, 256, (30, 40), np.uint8) for _ in range(count)]
    if value is not None:
        made = [np.full((30, 40), value, np.uint8) for _ in range(count)]
    for number, image in enumerate(made):
        assert cv2.imwrite(str(folder / f"{number}.png"), image)
    return made


# Finding.


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the search find drivers that do as they are told, by kind."""

    def install(**finds: Callable[[], list[Found]]) -> None:
        monkeypatch.setattr(finding, "FINDS", finds)

    return install


def _gige() -> list[Found]:
    return [Found("gige", 'Vendor "X" 12', {"device": "192.0.2.7"})]


def _v4l2() -> list[Found]:
    return [Found("v4l2", "USB camera", {"device": "/dev/video0"})]


def _not_installed() -> list[Found]:
    raise CameraError("pylon is not installed; pip install '.[agent,basler]'")


def _broken() -> list[Found]:
    raise RuntimeError("the producer does not load")


def test_what_is_found_is_printed_as_settings_that_are_taken_as_they_are(
    camera_command: Callable[..., Result], drivers: Callable[..., None], tmp_path: Path
) -> None:
    drivers(basler=_not_installed, gige=_gige, gentl=_broken, v4l2=_v4l2)
    code, out, err = camera_command("list")
    assert code == 0
    assert out.startswith('# Vendor "X" 12\n')
    (tmp_path / "agent.toml").write_text(out)
    sources = [camera.source for camera in load_settings(tmp_path / "agent.toml").cameras.values()]
    assert [source.kind for source in sources] == ["gige", "v4l2"]
    assert "not searched: basler: pylon is not installed; pip install" in err
    assert "not searched: gentl: RuntimeError: the producer does not load" in err


def test_a_name_from_the_network_is_no_setting_and_no_command_to_the_terminal(
    tmp_path: Path,
) -> None:
    odd = 'x"\n[broker]\nhost = "evil"\r\x1b[2J\x7f\u2028 \U0001f600 ä\\'
    said = Description(vendor=odd, settings={"Gain": odd})
    chosen = Chosen("left", described_camera(["kind=line"]), Path("/nowhere"))
    lines = pasteable([Found("gige", odd, {"device": odd})])
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in described(chosen, said, None, is_counted=True))
    (tmp_path / "agent.toml").write_text("\n".join(lines))
    settings = load_settings(tmp_path / "agent.toml")
    assert settings.cameras["camera-1"].source == GigeSource.model_validate({"device": odd})
    assert settings.broker.host != "evil"


def test_where_nothing_is_found_the_exit_code_says_so_and_json_is_json(
    camera_command: Callable[..., Result], drivers: Callable[..., None]
) -> None:
    drivers(basler=_not_installed, gige=list)
    code, out, err = camera_command("list", "--json")
    found = json.loads(out)
    assert (code, found["cameras"], list(found["not_searched"])) == (1, [], ["basler"])
    assert "no camera found" in err
    drivers(gige=_gige)
    code, out, _ = camera_command("list", "--json")
    assert code == 0
    assert json.loads(out)["cameras"][0]["source"] == {"device": "192.0.2.7"}


def test_a_search_that_hangs_costs_the_others_nothing(drivers: Callable[..., None]) -> None:
    ending = threading.Event()

    def hangs() -> list[Found]:
        ending.wait(30)
        return []

    drivers(basler=hangs, gige=_gige)
    before = time.monotonic()
    basler, gige = finding.search(within_s=0.2)
    assert time.monotonic() - before < 10
    ending.set()
    assert basler.problem == "did not answer within 0.2 s"
    assert [camera.name for camera in gige.cameras] == ['Vendor "X" 12']


def test_every_driver_that_can_be_searched_for_is_asked() -> None:
    # In a process of its own: vendors' libraries stay out of this one.
    command = [sys.executable, "-m", "ssn_agent.cli", "camera", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == int(not found["cameras"])
    assert set(found["not_searched"]) <= {"basler", "gentl", "gige"}
    assert "ssn_agent" not in str(found["not_searched"])


# Looking at one.


def test_a_probe_says_what_a_camera_is_and_what_its_frame_shows(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[cameras.left.source]\nkind = 'line'\n")
    code, out, _ = camera_command("probe", "-c", config)
    assert code == 0
    assert "camera     left, of kind line" in out
    assert "picture    640 x 480 from Mono8" in out
    assert out.partition("look:")[2].strip().startswith("no bundle is set")
    code, out, _ = camera_command("probe", "left", "--json", "-c", config)
    found = json.loads(out)
    assert (code, found["camera"], found["problem"], len(found["hints"])) == (0, "left", "", 1)
    assert found["triggers"] == ["free", "software"]


@pytest.mark.parametrize(("value", "hint"), [(255, "saturated"), (3, "dark")])
def test_a_probe_tells_of_light_that_shows_nothing(
    camera_command: Callable[..., Result], tmp_path: Path, value: int, hint: str
) -> None:
    images(tmp_path / "images", 1, value)
    where = f"path={tmp_path / 'images'}"
    code, out, _ = camera_command("probe", "-s", "kind=folder", "-s", where)
    assert code == 0
    assert hint in out.partition("look: ")[2]


def test_a_probe_says_which_picture_the_agent_would_call_unfit(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)
    folder = tmp_path / "images"
    folder.mkdir()
    config = tmp_path / "agent.toml"
    camera = f"[cameras.left]\nbundle = '{bundle}'\n"
    config.write_text(f"{camera}[cameras.left.source]\nkind = 'folder'\npath = '{folder}'\n")
    assert cv2.imwrite(str(folder / "0.png"), scene(5))
    code, _, err = camera_command("probe", "-c", config)
    assert (code, err) == (0, "")
    assert cv2.imwrite(str(folder / "0.png"), with_gain(scene(5), 0.15))
    code, _, err = camera_command("probe", "-c", config)
    assert code == 1
    assert f"it is dark, beside the good images of {bundle}" in err
    bundle.write_bytes(b"no bundle")
    code, out, _ = camera_command("probe", "-c", config)
    assert code == 0
    assert "every part is INVALID(no_model)" in out


def test_a_probe_tells_of_a_region_that_does_not_fit_and_of_a_picture_that_cannot_be_read(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    images(folder, 1)
    config = tmp_path / "agent.toml"
    config.write_text(
        f"[cameras.left.source]\nkind = 'folder'\npath = '{folder}'\n"
        "[cameras.left.roi]\nx = 30\ny = 0\nwidth = 20\nheight = 10\n"
    )
    code, out, err = camera_command("probe", "-c", config)
    assert code == 1
    assert "camera     left" in out
    assert "cannot be judged: the region of interest 20 x 10 at (30, 0)" in err
    (folder / "0.png").write_bytes(b"no picture")
    code, _, err = camera_command("probe", "-c", config)
    assert code == 1
    assert "cannot be judged: a frame without a picture" in err


def test_a_network_camera_that_is_not_there_is_one_message(
    camera_command: Callable[..., Result],
) -> None:
    url = f"url=rtsp://127.0.0.1:{free_port()}/cam"
    code, out, err = camera_command("probe", "-s", "kind=rtsp", "-s", url)
    assert (code, out) == (1, "")
    assert f"ssn-agent: {url[4:]}: does not open" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-s", "kind=line", "-s", "colour=1"], "--source: source.colour: unknown key"),
        (["-s", "kind"], "--source kind: write it as key.path=value"),
        (["-s", "kind=zeromq"], "its parts are sent by other programs"),
        (["left", "-s", "kind=line"], "leave NAME and --set out"),
        (["-c", "CONFIG"], "which camera? CONFIG has left, right"),
        (["up", "-c", "CONFIG"], "CONFIG: has no camera up, but left, right"),
    ],
)
def test_a_camera_that_is_not_named_right_is_wrong_use(
    camera_command: Callable[..., Result], tmp_path: Path, arguments: list[str], named: str
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("".join(f"[cameras.{n}.source]\nkind = 'line'\n" for n in ("left", "right")))
    code, out, err = camera_command("probe", *(a.replace("CONFIG", str(config)) for a in arguments))
    assert (code, out) == (2, "")
    assert named.replace("CONFIG", str(config)) in err


def test_a_feature_s_value_is_a_number_where_it_is_written_as_one() -> None:
    given = {"Width": "512", "Gamma": "0.5", "ReverseX": "true", "GainAuto": "Off", "Name": "[1]"}
    items = ["kind=basler", *(f"features.{name}={value}" for name, value in given.items())]
    source = described_camera(items).source
    assert isinstance(source, BaslerSource)
    assert source.features == {
        "Width": 512,
        "Gamma": 0.5,
        "ReverseX": True,
        "GainAuto": "Off",
        "Name": "[1]",
    }


def test_a_frame_that_came_incomplete_is_told_and_the_next_one_is_shown() -> None:
    chosen = Chosen("left", described_camera(["kind=line"]), Path("/nowhere"))
    torn = Frame(None, problem="packets are missing")
    frame, problems = take_whole(Script(torn, torn, Frame(GRAY)), chosen)
    assert frame.pixels is GRAY
    assert problems == ["packets are missing"] * 2
    assert "2: packets are missing" in incomplete(problems)[0]
    frame, problems = take_whole(Script(*[torn] * 9), chosen)
    assert (frame, len(problems)) == (torn, 4)
    frame, problems = take_whole(Script(torn, torn), chosen)
    assert (frame, len(problems)) == (torn, 1)
    assert incomplete([]) == []


# The agent may have it.


@pytest.fixture
def agent_has(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Have an agent run, as far as its lock and its settings show, and return its settings file."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    with (runtime / "agent.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def has(**source: str) -> Path:
            path = tmp_path / "agent.toml"
            lines = "".join(f"{key} = '{value}'\n" for key, value in source.items())
            path.write_text(f"runtime_dir = '{runtime}'\n[cameras.left.source]\n{lines}")
            in_force = load_settings(path).model_dump_json()
            (runtime / "settings.json").write_text(in_force)
            assert read_resolved(runtime / "settings.json")
            return path

        yield has


def test_a_camera_that_serves_one_program_is_not_taken_from_the_agent_that_has_it(
    camera_command: Callable[..., Result], agent_has: Callable[..., Path]
) -> None:
    config = agent_has(kind="v4l2", device="/dev/video97")
    code, out, err = camera_command("probe", "-c", config)
    assert (code, out) == (1, "")
    assert "left: the agent has it" in err
    assert "systemctl stop ssn-agent" in err
    other = ("--set", "cameras.left.source.device=/dev/video98")
    _, _, err = camera_command("probe", "-c", config, *other)
    assert "/dev/video98: does not open" in err
    assert "if it is one, stop the agent first" in err


def test_an_agent_that_cannot_be_asked_may_have_a_camera_that_does_not_open(
    camera_command: Callable[..., Result], agent_has: Callable[..., Path], tmp_path: Path
) -> None:
    config = agent_has(kind="v4l2", device="/dev/video97")
    (tmp_path / "run" / "settings.json").write_text("{}")
    _, _, err = camera_command("probe", "-c", config)
    assert "/dev/video97: does not open" in err
    assert "Whether the agent has it cannot be told" in err


def test_a_camera_that_serves_many_is_asked_beside_the_agent(
    camera_command: Callable[..., Result], agent_has: Callable[..., Path], tmp_path: Path
) -> None:
    images(tmp_path / "images", 1)
    config = agent_has(kind="folder", path=str(tmp_path / "images"))
    code, _, _ = camera_command("probe", "-c", config)
    assert code == 0


# Pictures.


def test_pictures_are_kept_as_they_are_numbered_and_never_over_others(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    made = images(tmp_path / "images", 2)
    where = ("-s", "kind=folder", "-s", f"path={tmp_path / 'images'}")
    out_path = tmp_path / "kept" / "part.png"
    out_path.parent.mkdir()
    code, out, err = camera_command("grab", *where, "--out", out_path, "--count", 3)
    assert code == 1
    assert "came to its end" in err  # and what there was is kept
    kept = sorted(out_path.parent.iterdir())
    assert [path.name for path in kept] == ["part-0001.png", "part-0002.png"]
    for path, image in zip(kept, made, strict=True):
        assert np.array_equal(decode_image(path.read_bytes(), path.name), image)
    assert "40 x 30 from Mono8" in out
    assert "brightness" in out
    kept[0].unlink()
    code, _, err = camera_command("grab", *where, "--out", out_path, "--count", 2)
    assert code == 2
    assert f"{kept[1]}: is there already" in err
    assert not kept[0].exists()
    assert camera_command("grab", *where, "--out", out_path, "--count", 2, "--force")[0] == 0


@pytest.mark.parametrize(("name", "named"), [("gone/a.png", "cannot be written"), ("a.jpg", "PNG")])
def test_a_picture_that_cannot_be_kept_is_wrong_use_and_leaves_nothing(
    camera_command: Callable[..., Result], tmp_path: Path, name: str, named: str
) -> None:
    code, _, err = camera_command("grab", *LINE, "--out", tmp_path / name)
    assert code == 2
    assert named in err
    assert not list(tmp_path.iterdir())


def test_a_picture_is_what_the_model_sees_of_a_bayer_pattern_or_of_a_region(tmp_path: Path) -> None:
    pattern = np.zeros((8, 8), np.uint8)
    pattern[::2, ::2] = 255  # the red ones
    frame = Frame(pattern, pixel_format=PixelFormat.BayerRG8)
    seen = Picture.of(frame, None)
    assert seen.frame_format == "BayerRG8"
    assert (seen.pixels[4, 4] == (255, 0, 0)).all()
    seen.save(tmp_path / "red.png")
    kept = cv2.imread(str(tmp_path / "red.png"))
    assert kept is not None
    assert (kept[4, 4] == (0, 0, 255)).all()  # OpenCV's order
    assert Picture.of(frame, Region(x=2, y=2, width=4, height=3)).size == "4 x 3"
    with pytest.raises(CameraError, match="3 packets are missing"):
        Picture.of(Frame(None, problem="3 packets are missing"), None)
    deep: Any = np.zeros((4, 4), np.uint16)
    with pytest.raises(ImageError, match="uint16"):
        Picture.of(Frame(deep), None)


# Measuring.


def bench(camera: Camera, *source: str) -> Bench:
    chosen = Chosen("left", described_camera(source or ["kind=line"]), Path("/nowhere"))
    return Bench(camera, chosen)


def test_losses_are_counted_by_frame_ids_also_where_they_begin_again() -> None:
    script = Script(*(Frame(GRAY, frame_id=number) for number in (97, 99, 100, 1, 3)))
    script.frame_ids = FrameIds(1, 100)
    found = bench(script).run(5)
    assert (found.frames, found.missed, found.incomplete) == (4, 2, 0)
    assert (found.ended, found.is_fault) == ("came to its end", False)


def test_frames_that_come_twice_and_counts_that_begin_anew_are_told_and_are_no_losses() -> None:
    script = Script(*(Frame(GRAY, frame_id=number) for number in (50, 51, 51, 7, 9)))
    found = bench(script).run(5)
    assert (found.frames, found.missed, found.twice, found.recounts) == (4, 1, 1, 1)
    told = measured(found)
    assert any("unknown 1 times" in line for line in told)
    assert any("1 frames came a second time" in line for line in told)


def test_a_fault_ends_with_the_figures_so_far() -> None:
    found = bench(Script(Frame(GRAY), Frame(None), Frame(GRAY), CameraError("cable pulled"))).run(5)
    assert (found.frames, found.incomplete, found.missed) == (2, 1, None)
    assert (found.ended, found.is_fault) == ("cable pulled", True)


def test_a_trigger_without_a_frame_is_counted_and_the_camera_is_armed_afresh() -> None:
    class Late(Script):
        is_late = False

        def trigger(self) -> None:
            super().trigger()
            self.is_late = self.triggered == 2

        def arm(self) -> None:
            super().arm()
            self.is_late = False

        def next_frame(self, wait_s: float) -> Frame | None:
            return None if self.is_late else super().next_frame(wait_s)

    script = Late(*[Frame(GRAY)] * 4)
    chosen = Chosen("left", described_camera(["kind=line", "trigger=software"]), Path("/nowhere"))
    short = chosen.settings.model_copy(update={"deadline_ms": 1.0})
    found = Bench(script, Chosen("left", short, Path("/nowhere"))).run(5)
    assert (found.frames, found.without_frame, script.armed) == (3, 1, 1)
    assert found.trigger_to_frame_ms is not None


def test_a_camera_is_closed_whatever_becomes_of_it() -> None:
    chosen = Chosen("left", described_camera(["kind=line"]), Path("/nowhere"))
    with pytest.raises(KeyboardInterrupt), opened(chosen):
        raise KeyboardInterrupt


def test_a_bench_prints_its_figures_and_triggers_where_it_is_asked_to(
    camera_command: Callable[..., Result],
) -> None:
    code, out, _ = camera_command("bench", *LINE, "--seconds", 0.4, "--json")
    found = json.loads(out)
    assert (code, found["trigger_to_frame_ms"]) == (0, None)
    assert found["frames"] > 1
    assert found["cpu_ms_per_frame"] > 0
    code, out, _ = camera_command("bench", *LINE, "--seconds", 0.4, "--trigger")
    assert code == 0
    assert "until the frame is in hand" in out


def test_a_camera_that_cannot_be_triggered_is_wrong_use_and_is_not_opened(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    watched = ("-s", "kind=folder", "-s", f"path={tmp_path}", "-s", "watch=true")
    code, _, err = camera_command("bench", *watched, "--seconds", 0.1, "--trigger")
    assert code == 2
    assert "which image of a watched folder belongs to which trigger, nobody can tell" in err


def test_what_a_camera_is_triggered_with_is_all_that_was_set() -> None:
    source = ["kind=rtsp", "url=rtsp://192.0.2.1/1", "username=viewer", "password=p@ss"]
    chosen = Chosen("left", described_camera(source), Path("/nowhere"))
    assert chosen.triggered().source == chosen.source.model_copy(update={"trigger": "software"})


def test_a_bench_of_a_video_says_that_it_ended(
    camera_command: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    code, out, _ = camera_command("bench", "-s", "kind=video", "-s", f"path={path}")
    assert code == 0
    assert "frames      4 in" in out
    assert f"ended by: {path}: came to its end" in out


def test_a_bench_of_a_network_camera_that_dies_prints_what_it_had_and_says_so(
    camera_command: Callable[..., Result],
) -> None:
    with network_camera() as camera:
        camera.start()
        where = ("-s", "kind=rtsp", "-s", f"url={camera.url}", "-s", "read_timeout_ms=500")
        code, out, _ = camera_command("probe", *where)
        assert code == 0
        assert "frame ids  none: a frame that is lost goes unseen" in out
        assert f"picture    {WIDTH} x {HEIGHT} from RGB8" in out
        command = [sys.executable, "-m", "ssn_agent.cli", "camera", "bench", *where]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stderr is not None
            said = ""
            while "Ctrl-C ends it" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            camera.kill()
            out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "frames" in out
    assert f"ssn-agent: {camera.url}: " in err
    assert "Traceback" not in err


def test_ctrl_c_on_a_terminal_ends_a_bench_with_the_figures_so_far() -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "ssn_agent.cli", "camera", "bench", *LINE, "--seconds", "60"]
    process = subprocess.Popen(["setsid", "--ctty", *command], stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        with suppress(OSError):  # EIO: nothing has the terminal open any more
            if select.select([ours], [], [], 0)[0]:
                shown += os.read(ours, 4096).decode()
        return text in shown

    try:
        wait_until(lambda: shows("Ctrl-C ends it"), 20, "it does not measure")
        os.write(ours, b"\x03")
        wait_until(lambda: shows("incomplete"), 20, "no figures")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "ended by: Ctrl-C" in shown
    assert "Traceback" not in shown
