"""Cameras that share a bundle share its batches, and none of them pays for another's frame."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import EngineError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.layout import Accepted, Captured, Outcome, Result
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.engines.available import REFERENCE, why_not
from ssn_agent.inference.engines.engine import Answer, Engine
from ssn_agent.inference.engines.ort import BoundEngine, OrtCpuEngine
from ssn_agent.inference.model import Model
from ssn_agent.inference.process import Inference
from ssn_agent.inference.settings import MAX_BATCH
from ssn_contract.messages import InvalidReason
from support.bundles import SIZE, write_brightness_bundle
from support.ledgers import settings_in
from support.records import new_journal
from support.waiting import wait_until

NAMES = ("left", "right", "top")
DARK = np.full((40, 48), 20, np.uint8)
SPOT = DARK.copy()
SPOT[8:16, 30:36] = 250


class Cameras:
    """Several cameras' files, and one inference process's code on them."""

    def __init__(
        self,
        folder: Path,
        runtime: Path,
        bundles: dict[str, Path],
        roi: dict[str, int] | None = None,
        **inference: Any,
    ) -> None:
        camera = {"source": {"kind": "folder", "path": str(folder)}, "roi": roi}
        cameras = {name: {**camera, "bundle": path} for name, path in bundles.items()}
        inference = {"engine": REFERENCE, **inference}
        self.settings = settings_in(
            folder, (), runtime_dir=runtime, cameras=cameras, inference=inference
        )
        files = RuntimeFiles(runtime)
        self._journals, self._slots = {}, {}
        for name in cameras:
            PixelSlots.create(files.pixels(name))
            self._journals[name] = new_journal(files.journal(name), camera=name)
            self._slots[name] = PixelSlots(files.pixels(name))
        self.inference = Inference(self.settings, files)
        self.inference.load()

    def trigger(self, name: str, deadline_s: float = 60.0) -> int:
        """Count a part whose frame is still to come."""
        now = time.monotonic_ns()
        deadline = now + int(deadline_s * 1e9)
        return self._journals[name].accept(Accepted(now, time.time_ns(), deadline, None, None))

    def frame(
        self,
        name: str,
        pixels: NDArray[np.uint8],
        deadline_s: float = 60.0,
        pixel_format: PixelFormat | None = None,
    ) -> int:
        """Put a frame in front of inference, and return its number."""
        sequence = self.trigger(name, deadline_s)
        slot = sequence % 6
        size = self._slots[name].write(slot, pixels, pixel_format)
        self._journals[name].capture(sequence, Captured(None, slot, *size))
        return sequence

    def result(self, name: str, sequence: int) -> Result | None:
        entry = self._journals[name].read(sequence)
        assert entry is not None
        return entry.result

    def judged(self, name: str) -> int:
        """Return how many of a camera's frames have a result."""
        entries = self._journals[name].entries(lambda entry: entry.result is not None)
        return len(list(entries))

    def finish(self) -> None:
        while self.inference.turn():
            pass


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_brightness_bundle(tmp_path / "brightness.ssn")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that an engine is given from here on."""
    sizes: list[int] = []
    run = Engine.run

    def noted(self: Engine, inputs: NDArray[np.uint8]) -> Answer:
        sizes.append(len(inputs))
        return run(self, inputs)

    monkeypatch.setattr(Engine, "run", noted)
    return sizes


def of(bundle: Path) -> dict[str, Path]:
    return dict.fromkeys(NAMES, bundle)


def test_frames_that_wait_at_once_are_one_batch_and_each_gets_its_own_answer(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    cameras = Cameras(tmp_path, runtime, of(bundle), max_batch=4)
    colour = np.full((64, 64, 3), 30, np.uint8)
    colour[:, :16, 2] = 240
    frames = {"left": SPOT, "right": DARK, "top": colour}
    sequences = {name: cameras.frame(name, pixels) for name, pixels in frames.items()}
    batches.clear()
    assert cameras.inference.turn()
    assert batches == [3]
    left, right, top = (cameras.result(name, sequence) for name, sequence in sequences.items())
    assert left is not None
    assert right is not None
    assert top is not None
    outcomes = [result.outcome for result in (left, right, top)]
    assert outcomes == [Outcome.FAIL, Outcome.PASS, Outcome.FAIL]
    assert [(d.x, d.y, d.width) for d in left.defects] == [(30, 7, 6)]
    assert [(d.x, d.y, d.width, d.height) for d in top.defects] == [(0, 0, 16, 64)]
    assert not cameras.inference.turn()


def test_a_frame_is_not_kept_waiting_for_others_to_make_up_a_batch(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    cameras = Cameras(tmp_path, runtime, of(bundle), max_batch=4)
    cameras.trigger("left")
    sequence = cameras.frame("right", DARK)
    batches.clear()
    assert cameras.inference.turn()
    assert (batches, cameras.result("right", sequence) is None) == ([1], False)


def test_a_batch_is_of_one_bundle(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    other = write_brightness_bundle(tmp_path / "other.ssn", name="other")
    bundles = {"left": bundle, "right": other, "top": bundle}
    cameras = Cameras(tmp_path, runtime, bundles, max_batch=4)
    sequences = {name: cameras.frame(name, SPOT) for name in bundles}
    batches.clear()
    cameras.finish()
    assert batches == [2, 1]
    for name, sequence in sequences.items():
        result = cameras.result(name, sequence)
        assert result is not None
        assert result.bundle_name == ("other" if name == "right" else "brightness")


@pytest.mark.parametrize("max_batch", [1, 2, 3, 8])
def test_no_camera_waits_for_the_backlog_of_another(
    tmp_path: Path, runtime: Path, bundle: Path, max_batch: int, batches: list[int]
) -> None:
    cameras = Cameras(tmp_path, runtime, of(bundle), max_batch=max_batch)
    for _ in range(6):
        cameras.frame("left", DARK)
    for _ in range(2):
        cameras.frame("right", DARK)
    batches.clear()
    while cameras.judged("right") < 2:
        assert cameras.inference.turn()
    assert cameras.judged("left") <= 2 + max_batch
    cameras.finish()
    assert (cameras.judged("left"), cameras.judged("right"), cameras.judged("top")) == (6, 2, 0)
    assert max(batches) == max_batch
    assert sum(batches) == 8


def test_on_a_processor_frames_are_scored_one_by_one_unless_the_settings_say_otherwise(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    cameras = Cameras(tmp_path, runtime, of(bundle))
    for name in NAMES:
        cameras.frame(name, DARK)
    batches.clear()
    cameras.finish()
    assert batches == [1, 1, 1]
    assert (OrtCpuEngine.max_batch, BoundEngine.max_batch) == (1, MAX_BATCH)


def test_frames_that_cannot_be_judged_cost_the_others_of_a_batch_nothing(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    roi = {"x": 0, "y": 0, "width": 40, "height": 40}
    cameras = Cameras(tmp_path, runtime, of(bundle), roi, max_batch=8)
    frames = [
        cameras.frame("left", SPOT),
        cameras.frame("left", SPOT, deadline_s=0.0),
        cameras.frame("left", SPOT[:32]),  # too small for the region of interest
        cameras.frame("left", SPOT[:2, :2], pixel_format=PixelFormat.BayerRG8),
        cameras.frame("left", DARK),
    ]
    other = cameras.frame("right", SPOT)
    batches.clear()
    assert cameras.inference.turn()
    assert batches == [3]
    results = [cameras.result("left", sequence) for sequence in frames]
    results.append(cameras.result("right", other))
    assert [result and (result.outcome, result.reason) for result in results] == [
        (Outcome.FAIL, None),
        (Outcome.INVALID, InvalidReason.LATE),
        (Outcome.INVALID, InvalidReason.UNREADABLE),
        (Outcome.INVALID, InvalidReason.UNREADABLE),
        (Outcome.PASS, None),
        (Outcome.FAIL, None),
    ]


def test_an_engine_s_fault_costs_the_frames_of_its_batch_and_no_others(
    tmp_path: Path, runtime: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = Cameras(tmp_path, runtime, of(bundle), max_batch=2)
    run = Engine.run

    def fails_once(_: Engine, inputs: NDArray[np.uint8]) -> Answer:
        monkeypatch.setattr(Engine, "run", run)
        raise EngineError(f"no answer for {len(inputs)}")

    monkeypatch.setattr(Engine, "run", fails_once)
    sequences = {name: cameras.frame(name, DARK) for name in NAMES}
    cameras.finish()
    results = [cameras.result(name, sequence) for name, sequence in sequences.items()]
    reasons = [result.reason for result in results if result is not None]
    assert sorted(reasons, key=str) == [InvalidReason.NO_MODEL, InvalidReason.NO_MODEL, None]


def learned(folder: Path, runtime: Path, bundle: Path, **inference: Any) -> Model:
    """Return a model that knows what an image takes."""
    source = {"kind": "folder", "path": "/images"}
    inference = {"engine": REFERENCE, "max_batch": 4, **inference}
    settings = settings_in(folder, (), cameras={"left": {"source": source}}, inference=inference)
    files = RuntimeFiles(runtime)
    model = Model(Bundle.open(bundle), settings, files, Heartbeat(files.heartbeat("inference")))
    model.prepare(DARK, 0)
    model.score_prepared(1)
    return model


def test_a_batch_ends_where_it_would_take_longer_than_its_bound(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    model = learned(tmp_path, runtime, bundle, batch_ms=60_000)
    assert [model.fits(count, 60.0) for count in (2, 4, 5)] == [True, True, False]
    model = learned(tmp_path, runtime, bundle, batch_ms=1e-3)
    assert not model.fits(2, 60.0)


def test_a_batch_ends_where_it_would_make_its_most_urgent_frame_late(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    model = learned(tmp_path, runtime, bundle, batch_ms=60_000)
    assert not model.fits(2, 1e-6)


def test_an_engine_that_takes_over_has_seen_every_size_of_batch(
    tmp_path: Path, runtime: Path, bundle: Path, batches: list[int]
) -> None:
    problem = why_not("openvino/fp32")
    if problem is not None:
        pytest.skip(problem)
    model = learned(tmp_path, runtime, bundle, engine="openvino/fp32")
    batches.clear()
    wait_until(lambda: not model.search(), 30, "openvino/fp32 does not take over")
    assert model.scorer.engine.name == "openvino/fp32"
    assert batches == [1, 2, 3, 4]
    for row in range(4):
        model.prepare(np.full((SIZE, SIZE), 60 * row, np.uint8), row)
    found = [scored.raw for scored in model.score_prepared(4)]
    assert found == pytest.approx([0.0, 60 / 255, 120 / 255, 180 / 255], abs=1e-4)
