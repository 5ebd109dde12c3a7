"""Inference takes every frame to a result in its journal record, or says why it could not."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import write_bundle
from ssn_agent.frames.layout import Accepted, Captured, Outcome
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference import image_writer
from ssn_agent.inference.engines.available import why_not
from ssn_agent.inference.process import Inference
from ssn_agent.ledger.status import station_status
from ssn_agent.ledger.stream import follow
from ssn_contract.messages import InvalidReason
from support.bundles import SIZE, brightness_model, manifest, write_brightness_bundle
from support.bundles import files as bundle_files
from support.lanes import Lane
from support.ledgers import open_writer, settings_in
from support.records import new_journal
from support.waiting import wait_until

DARK = np.full((64, 64), 20, np.uint8)
SPOT = DARK.copy()
SPOT[8:16, 40:44] = 250


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_brightness_bundle(tmp_path / "brightness.ssn")


def test_a_bright_spot_fails_with_its_place_its_heatmap_and_who_judged(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle)
    sequence = lane.frame(SPOT)
    result = lane.result(sequence)
    assert result.outcome is Outcome.FAIL
    (defect,) = result.defects
    assert (defect.x, defect.y, defect.width, defect.height) == (40, 8, 4, 8)
    assert (result.bundle_name, result.engine) == ("brightness", "onnxruntime-cpu/fp32")
    assert result.heatmap
    wait_until(lane.heatmap(sequence).exists, 10, "no heatmap")
    gray = cv2.imread(str(lane.heatmap(sequence)), cv2.IMREAD_UNCHANGED)
    assert gray is not None
    assert gray.shape == (32, 32)
    assert (gray >= 128).sum() == 4 * 2
    note = lane.journal.model_note()
    assert note is not None
    assert (note.bundle_digest, note.message) == (result.bundle_digest, "")


@pytest.mark.parametrize(("wanted", "written"), [("fail", False), ("all", True), ("none", False)])
def test_a_good_part_gets_a_heatmap_only_where_all_do(
    tmp_path: Path, runtime: Path, bundle: Path, wanted: str, *, written: bool
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, heatmap=wanted)
    sequence = lane.frame(DARK)
    result = lane.result(sequence)
    assert (result.outcome, result.defects) == (Outcome.PASS, ())
    assert result.heatmap is written
    lane.inference.close()
    assert lane.heatmap(sequence).exists() is written


class StalledDisk:
    """A disk that takes no heatmap until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()
        monkeypatch.setattr(image_writer, "write_atomically", self._write)

    def _write(self, path: Path, data: bytes, *, synced: bool) -> None:
        assert self.goes_on.wait(20)
        write_atomically(path, data, synced=synced)


def test_no_verdict_waits_for_a_heatmap_or_for_the_disk_it_goes_to(
    tmp_path: Path, runtime: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StalledDisk(monkeypatch)
    lane = Lane(tmp_path, runtime, bundle=bundle)
    sequences = [lane.frame(SPOT) for _ in range(3)]
    results = [lane.result(sequence) for sequence in sequences]
    assert [(r.outcome, r.heatmap) for r in results] == [(Outcome.FAIL, True)] * 3
    assert not any(lane.heatmap(sequence).exists() for sequence in sequences)
    disk.goes_on.set()
    lane.inference.close()
    assert all(lane.heatmap(sequence).exists() for sequence in sequences)


def test_a_disk_that_does_not_keep_up_costs_pictures_and_neither_memory_nor_verdicts(
    tmp_path: Path,
    runtime: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(image_writer, "MAX_WAITING", 2)
    disk = StalledDisk(monkeypatch)
    lane = Lane(tmp_path, runtime, bundle=bundle)
    results = [lane.result(lane.frame(SPOT)) for _ in range(5)]
    disk.goes_on.set()
    assert {result.outcome for result in results} == {Outcome.FAIL}
    assert 2 <= sum(result.heatmap for result in results) <= 3  # one of them is being written
    assert "the disk is too slow" in capsys.readouterr().out


def test_a_heatmap_that_cannot_be_written_costs_the_picture_and_not_the_verdict_and_is_told(
    tmp_path: Path, runtime: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle)
    lane.settings.heatmap_dir.parent.mkdir()
    lane.settings.heatmap_dir.write_text("a file in the way")
    sequence = lane.frame(SPOT)
    assert lane.result(sequence).outcome is Outcome.FAIL
    lane.inference.close()
    told = capsys.readouterr().out
    assert "image not written" in told
    assert str(lane.heatmap(sequence)) in told


def test_only_the_region_of_interest_is_judged(tmp_path: Path, runtime: Path, bundle: Path) -> None:
    roi = {"x": 0, "y": 32, "width": 64, "height": 32}
    lane = Lane(tmp_path, runtime, bundle=bundle, roi=roi)
    assert lane.result(lane.frame(SPOT)).outcome is Outcome.PASS
    (defect,) = lane.result(lane.frame(SPOT[::-1])).defects
    assert (defect.x, defect.y) == (40, 48)


def test_a_frame_that_the_region_of_interest_does_not_fit_is_unreadable(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    roi = {"x": 0, "y": 32, "width": 64, "height": 33}
    lane = Lane(tmp_path, runtime, bundle=bundle, roi=roi)
    assert lane.result(lane.frame(SPOT)).reason is InvalidReason.UNREADABLE


def test_a_sensor_s_pattern_and_a_gray_frame_get_the_verdict_of_their_converted_ones(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    roi = {"x": 7, "y": 3, "width": 50, "height": 41}
    lane = Lane(tmp_path, runtime, bundle=bundle, roi=roi)
    frame = np.random.default_rng(0).integers(0, 200, (64, 64), np.uint8)
    frame[8:24, 30:50] = 250
    as_rgb = {
        PixelFormat.Mono8: cv2.COLOR_GRAY2RGB,
        PixelFormat.BayerRG8: cv2.COLOR_BayerRGGB2RGB,
        PixelFormat.BayerGB8: cv2.COLOR_BayerGBRG2RGB,
    }
    for pixel_format, conversion in as_rgb.items():
        given = lane.result(lane.frame(frame, pixel_format=pixel_format))
        converted = cv2.cvtColor(frame, conversion).astype(np.uint8)
        expected = lane.result(lane.frame(converted))
        assert given.outcome is Outcome.FAIL
        assert (given.score, given.defects) == (expected.score, expected.defects)


def test_a_threshold_of_the_camera_s_own_decides_the_verdict(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, threshold=0.999)
    result = lane.result(lane.frame(SPOT))
    assert result.outcome is Outcome.PASS
    assert 0.5 < result.score < 0.999


def test_a_threshold_that_changes_at_run_time_judges_the_next_frame_and_results_name_theirs(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, threshold=0.999)
    before = lane.result(lane.frame(SPOT))
    camera = lane.settings.cameras["left"].model_copy(update={"threshold": 0.5})
    changed = lane.settings.model_copy(update={"cameras": {"left": camera}})
    lane.inference.take_over(changed)
    after = lane.result(lane.frame(SPOT))
    assert (before.outcome, before.threshold) == (Outcome.PASS, 0.999)
    assert (after.outcome, after.threshold) == (Outcome.FAIL, 0.5)
    assert before.settings_digest == lane.settings.digest
    assert after.settings_digest == changed.digest


def test_a_frame_whose_deadline_has_passed_is_not_scored(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle)
    overdue, timely = lane.frame(SPOT, deadline_s=0.0), lane.frame(SPOT)
    assert lane.result(overdue).reason is InvalidReason.LATE
    assert lane.result(timely).outcome is Outcome.FAIL


BROKEN_MODELS = {
    "opset of the future": brightness_model().replace(b"\x10\x12", b"\x10\x63"),  # 18 -> 99
    "other inputs": brightness_model(size=2 * SIZE),
    "not a number": brightness_model().replace(b"\0\0\x7f\x43", b"\0\0\xc0\x7f"),  # 255 -> NaN
}


@pytest.mark.parametrize("given", [None, "absent", "damaged", "other scores", *BROKEN_MODELS])
def test_without_a_sound_bundle_every_part_is_no_model_and_the_camera_says_why(
    tmp_path: Path,
    runtime: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
) -> None:
    monkeypatch.setattr("ssn_agent.inference.judges.REOPEN_BUNDLE_S", 0.0)
    if given == "absent":
        bundle.unlink()
    if given == "damaged":
        bundle.write_bytes(bundle.read_bytes()[:-100])
    if given == "other scores":
        vectors = [{"image": "vectors/0.png", "score": 0.9, "map": "vectors/0.f32"}]
        write_brightness_bundle(bundle, vectors=vectors)
    if given in BROKEN_MODELS:
        entries = {**bundle_files(), "model.onnx": BROKEN_MODELS[given]}
        write_bundle(bundle, manifest(), entries)
    lane = Lane(tmp_path, runtime, bundle=None if given is None else bundle)
    assert lane.result(lane.frame(SPOT)).reason is InvalidReason.NO_MODEL
    note = lane.journal.model_note()
    assert note is not None
    assert note.bundle_digest == ""
    says = {None: "no bundle is set", "opset of the future": "operator set 99"}
    says |= {"other inputs": "pack it anew", "not a number": "NaN"}
    assert says.get(given, bundle.name) in note.message
    lane.inference.load()  # tried again, and not said again
    assert lane.journal.model_note() == note


def test_an_engine_that_takes_over_judges_the_next_frame_and_the_camera_says_so(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    if why_not("openvino/fp32") is not None:
        pytest.skip(str(why_not("openvino/fp32")))
    lane = Lane(tmp_path, runtime, bundle=bundle, inference={"engine": "openvino/fp32"})
    assert lane.result(lane.frame(SPOT)).engine == "onnxruntime-cpu/fp32"
    lane.inference.search()
    assert lane.inference.is_loading

    def taken_over() -> bool:
        lane.inference.search()
        note = lane.journal.model_note()
        return note is not None and (note.engine, note.message) == ("openvino/fp32", "")

    wait_until(taken_over, 30, "openvino/fp32 does not take over")
    result = lane.result(lane.frame(SPOT))
    assert (result.outcome, result.engine) == (Outcome.FAIL, "openvino/fp32")


def test_a_pinned_engine_that_fails_is_told_beside_the_bundle_that_judges(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, inference={"engine": "openvino/int8"})

    def refused() -> bool:
        lane.inference.search()
        note = lane.journal.model_note()
        return note is not None and note.message.startswith("engine openvino/int8 is refused")

    wait_until(refused, 30, "nothing is said")
    assert lane.result(lane.frame(SPOT)).engine == "onnxruntime-cpu/fp32"


@pytest.mark.parametrize("name", ["onnxruntime-cpu/int8", "openvino/int8"])
@pytest.mark.parametrize(
    ("twin", "says"),
    [
        (b"no graph", "does not load"),
        (BROKEN_MODELS["opset of the future"], "operator set 99"),
        (BROKEN_MODELS["other inputs"], "the model takes [('image', 'uint8', (None, 64, 64, 3))]"),
        (BROKEN_MODELS["not a number"], "NaN or infinity"),
        (
            brightness_model().replace(b"\0\0\x7f\x43", b"\0\0\xfa\x43"),  # 255 -> 500
            "does not reproduce vectors/0.png",
        ),
    ],
    ids=["no graph", "opset", "inputs", "NaN", "another answer"],
)
def test_a_twin_that_its_engine_cannot_serve_is_told_in_the_status_and_fp32_judges(
    tmp_path: Path, runtime: Path, bundle: Path, name: str, twin: bytes, says: str
) -> None:
    if why_not(name) is not None:
        pytest.skip(str(why_not(name)))
    [fp32] = manifest()["precisions"]
    precisions = [fp32, {**fp32, "name": "int8", "file": "int8"}]
    entries = {**bundle_files(), "int8": twin}
    write_bundle(bundle, manifest(precisions=precisions), entries)
    lane = Lane(tmp_path, runtime, bundle=bundle, inference={"engine": name})

    def is_told() -> bool:
        lane.inference.search()
        note = lane.journal.model_note()
        return note is not None and note.message != ""

    wait_until(is_told, 30, "nothing is said")
    result = lane.result(lane.frame(SPOT))
    assert (result.outcome, result.engine) == (Outcome.FAIL, "onnxruntime-cpu/fp32")
    status = station_status(
        lane.settings,
        {"left": follow(lane.journal, open_writer(lane.settings))},
        ledger_problem=None,
        broker_problem=None,
        undelivered=0,
        refused_triggers=0,
    )
    (alarm,) = status.alarms
    assert alarm.startswith(f"left: engine {name} is refused, onnxruntime-cpu/fp32 judges: ")
    assert says in alarm
    assert [camera.engine for camera in status.cameras] == ["onnxruntime-cpu/fp32"]


def test_a_bundle_that_comes_later_is_taken_up(
    tmp_path: Path, runtime: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.inference.judges.REOPEN_BUNDLE_S", 0.0)
    later = tmp_path / "later.ssn"
    lane = Lane(tmp_path, runtime, bundle=later)
    bundle.rename(later)
    lane.inference.load()
    assert lane.result(lane.frame(SPOT)).outcome is Outcome.FAIL


def test_the_inference_process_after_a_dead_one_takes_up_the_frames_without_a_result(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle)
    done, waiting = lane.frame(SPOT), lane.frame(DARK)
    assert lane.inference.turn()
    before = lane.entry(done).result
    assert lane.entry(waiting).result is None
    lane.inference = Inference(lane.settings, RuntimeFiles(lane.settings.runtime_dir))
    lane.inference.load()
    assert lane.result(waiting).outcome is Outcome.PASS
    assert lane.entry(done).result == before


def test_a_camera_that_waits_for_its_frame_does_not_hold_up_the_others(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    source = {"source": {"kind": "folder", "path": str(tmp_path)}, "bundle": bundle}
    cameras = {"left": source, "right": source}
    settings = settings_in(tmp_path, (), runtime_dir=runtime, cameras=cameras)
    files = RuntimeFiles(runtime)
    for name in cameras:
        PixelSlots.create(files.pixels(name))
    with (
        closing(new_journal(files.journal("left"))) as left,
        closing(new_journal(files.journal("right"), camera="right")) as right,
    ):
        inference = Inference(settings, files)
        inference.load()
        deadline = time.monotonic_ns() + 60 * 10**9
        left.accept(Accepted(1, 1, deadline, None, None))  # its frame is still to come
        sequence = right.accept(Accepted(1, 1, deadline, None, None))
        right.capture(
            sequence, Captured(None, 0, *PixelSlots(files.pixels("right")).write(0, DARK))
        )
        assert inference.turn()
        entry = right.read(sequence)
    assert entry is not None
    assert entry.result is not None


@pytest.mark.parametrize("module", ["inference", "capture"])
def test_a_process_whose_journal_is_damaged_says_so_in_one_line(
    tmp_path: Path, runtime: Path, module: str
) -> None:
    settings = settings_in(tmp_path, runtime_dir=runtime)
    resolved = runtime / "settings.json"
    resolved.write_text(settings.model_dump_json())
    (runtime / "left.journal").write_bytes(b"damaged")
    arguments = [str(resolved), *(["left"] if module == "capture" else []), str(os.getpid())]
    done = subprocess.run(
        [sys.executable, "-m", f"ssn_agent.{module}.process", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "left.journal" in line


def test_the_process_keeps_to_its_processors_and_ends_in_order(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    cpu = max(os.sched_getaffinity(0))
    inference = {"engine": "onnxruntime-cpu/fp32", "cpus": [cpu]}
    lane = Lane(tmp_path, runtime, bundle=bundle, inference=inference)
    resolved = runtime / "settings.json"
    resolved.write_text(lane.settings.model_dump_json())
    command = [sys.executable, "-m", "ssn_agent.inference.process", str(resolved)]
    process = subprocess.Popen([*command, str(os.getpid())])
    try:
        ready = RuntimeFiles(runtime).inference_ready
        wait_until(ready.exists, 30, "inference is not ready")
        assert os.sched_getaffinity(process.pid) == {cpu}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
