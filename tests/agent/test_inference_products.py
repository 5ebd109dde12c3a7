"""What judges a part is what the settings name for its product, and nobody's frame is mixed up."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.inference.engines.engine import Answer, Engine
from ssn_contract.messages import InvalidReason
from support.bundles import SIZE, write_brightness_bundle
from support.products import Cameras
from support.scenes import GOOD, scene, with_gain

DARK = np.full((SIZE, SIZE), 20, np.uint8)
NAMES = ("own", "nut", "bolt")


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    return {name: write_brightness_bundle(tmp_path / f"{name}.ssn", name=name) for name in NAMES}


@pytest.fixture
def camera(bundles: dict[str, Path]) -> dict[str, Any]:
    products = {name: {"bundle": bundles[name]} for name in ("nut", "bolt")}
    return {"bundle": bundles["own"], "products": products}


def judged(cameras: Cameras, part: tuple[str, int]) -> str | InvalidReason | None:
    """Return the name of the bundle that judged a part, or why none did."""
    result = cameras.result(part)
    return result.bundle_name or result.reason


def test_each_product_is_judged_by_its_own_bundle_and_an_unknown_one_by_none(
    tmp_path: Path, runtime: Path, camera: dict[str, Any]
) -> None:
    cameras = Cameras(tmp_path, runtime, {"left": camera})
    given = {"nut": "nut", "bolt": "bolt", None: "own", "screw": InvalidReason.NO_MODEL}
    for product, by in given.items():
        assert judged(cameras, cameras.frame("left", DARK, product)) == by


def test_without_any_product_the_camera_s_own_bundle_judges_them_all(
    tmp_path: Path, runtime: Path, camera: dict[str, Any]
) -> None:
    cameras = Cameras(tmp_path, runtime, {"left": {"bundle": camera["bundle"]}})
    assert judged(cameras, cameras.frame("left", DARK, "screw")) == "own"


def test_a_camera_that_judges_by_product_alone_notes_its_first_bundle_and_no_fault(
    tmp_path: Path, runtime: Path, camera: dict[str, Any]
) -> None:
    cameras = Cameras(tmp_path, runtime, {"left": {"products": camera["products"]}})
    note = cameras.note("left")
    assert (note.bundle_name, note.message) == ("nut", "")
    assert judged(cameras, cameras.frame("left", DARK)) is InvalidReason.NO_MODEL


def test_a_product_whose_bundle_is_missing_is_told_and_the_others_are_judged(
    tmp_path: Path, runtime: Path, camera: dict[str, Any], bundles: dict[str, Path]
) -> None:
    bundles["bolt"].unlink()
    cameras = Cameras(tmp_path, runtime, {"left": camera})
    note = cameras.note("left")
    assert (note.bundle_name, "bolt.ssn" in note.message) == ("own", True)
    assert judged(cameras, cameras.frame("left", DARK, "bolt")) is InvalidReason.NO_MODEL
    assert judged(cameras, cameras.frame("left", DARK, "nut")) == "nut"


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that an engine is given."""
    sizes: list[int] = []
    run = Engine.run

    def noted(self: Engine, inputs: NDArray[np.uint8]) -> Answer:
        sizes.append(len(inputs))
        return run(self, inputs)

    monkeypatch.setattr(Engine, "run", noted)
    return sizes


def test_a_batch_is_of_one_bundle_and_each_camera_s_frames_are_judged_in_their_order(
    tmp_path: Path, runtime: Path, camera: dict[str, Any], batches: list[int]
) -> None:
    cameras = Cameras(tmp_path, runtime, dict.fromkeys(("left", "right"), camera), max_batch=4)
    shown = {"left": ["nut", "nut", "bolt", "nut"], "right": ["nut", "bolt", "screw", "bolt"]}
    parts = {
        name: [cameras.frame(name, DARK + i, product) for i, product in enumerate(products)]
        for name, products in shown.items()
    }
    batches.clear()
    while cameras.inference.turn():
        for name in parts:
            has = [cameras.peek(part) is not None for part in parts[name]]
            assert has == sorted(has, reverse=True)
    assert batches == [3, 3, 1]  # nuts; bolts, past the screw; the last nut
    for name, products in shown.items():
        for i, (part, product) in enumerate(zip(parts[name], products, strict=True)):
            result = cameras.peek(part)
            assert result is not None
            if product == "screw":
                assert result.reason is InvalidReason.NO_MODEL
                continue
            assert result.bundle_name == product
            assert result.score == pytest.approx(_score(20 + i), abs=1e-5)


def _score(gray: int) -> float:
    return float(1 / (1 + np.exp(-10 * (gray / 255 - 0.5))))


def test_a_picture_is_checked_by_what_the_bundle_of_its_product_says_of_good_ones(
    tmp_path: Path, runtime: Path, bundles: dict[str, Path]
) -> None:
    strict = write_brightness_bundle(tmp_path / "strict.ssn", name="strict", good=GOOD)
    products = {"nut": {"bundle": strict}, "bolt": {"bundle": bundles["bolt"]}}
    camera = {"products": products, "source": {"kind": "zeromq"}}
    cameras = Cameras(tmp_path, runtime, {"left": camera})
    dark = [with_gain(scene(seed), 0.15) for seed in (101, 102)]
    assert judged(cameras, cameras.frame("left", dark[0], "nut")) is InvalidReason.DARK
    assert judged(cameras, cameras.frame("left", dark[1], "bolt")) == "bolt"
