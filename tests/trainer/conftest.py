"""Drawn parts to train on: speckled gray plates, the bad ones with a bright blob."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from ssn_contract.manifest import Head, Regime
from ssn_trainer import cli
from ssn_trainer.data.samples import load
from ssn_trainer.data.split import split
from ssn_trainer.fit import end_to_end, loop
from ssn_trainer.fit.job import Fitted, Learned, fit, learn
from ssn_trainer.fit.order import Order
from ssn_trainer.pack.bundle import Labelled, Packed, Title, pack
from ssn_trainer.pack.judge import Judged, judge
from support.exports import remembered_exports as remembered_exports

SIZE = 64
Run = Callable[..., tuple[int, str, str]]

# On pictures this small several threads wait for each other longer than they compute.
torch.set_num_threads(1)


def draw_parts(root: Path, good: int, bad: int, seed: int = 0) -> Path:
    """Draw `good/` and `blob/`, the latter with masks."""
    rng = np.random.default_rng(seed)
    for kind, count in (("good", good), ("blob", bad)):
        (root / kind).mkdir(parents=True)
        for index in range(count):
            speckle = rng.normal(128, 40, (SIZE, SIZE)).clip(0, 255).astype(np.uint8)
            image = cv2.GaussianBlur(speckle, (0, 0), 1.0)
            if kind == "blob":
                centre = tuple(int(v) for v in rng.integers(12, SIZE - 12, 2))
                mask = np.zeros((SIZE, SIZE), np.uint8)
                cv2.circle(mask, centre, int(rng.integers(4, 8)), 255, -1)
                image[mask > 0] = 220
                assert cv2.imwrite(str(root / kind / f"{index}_mask.png"), mask)
            assert cv2.imwrite(str(root / kind / f"{index}.png"), image)
    return root


def order(data: Path, out: Path, regime: Regime | None, **changes: Any) -> Order:
    """A fit of a minute's fraction: small images, random backbone, every image its own part."""
    options: dict[str, Any] = {
        "name": "plates",
        "weights": "none",
        "height": SIZE,
        "width": SIZE,
        "epochs": 2,
        "batch": 8,
        "device": "cpu",
        "group_by": ".*",
    }
    return Order(data=data, out=out, regime=regime, **{**options, **changes})


def quiet_fit(wanted: Order) -> Fitted:
    """Fit without a word, and without twins."""
    return fit(wanted, "1", Console(quiet=True), twins=())


def learn_from_folder(wanted: Order, console: Console | None = None) -> Learned:
    """Train on the order's folder, without packing."""
    wanted.out.mkdir(parents=True, exist_ok=True)
    parts = split(load(wanted.data, wanted.group_by), wanted.seed)
    return learn(wanted, parts, console or Console(quiet=True))


@pytest.fixture(scope="session", autouse=True)
def few_steps_an_epoch() -> Iterator[None]:
    """A few small images need fewer steps than a line's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CELL_STEPS", 16)
        patch.setattr(end_to_end, "_STEPS", 8)
        yield


def judge_test_part(trained: Learned, *, pixels: bool = False) -> Judged:
    """Judge the test part by the network itself: no export, no bundle."""

    def run(batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            scores, maps = trained.network(torch.from_numpy(batch))
        return scores.numpy(), maps.numpy()

    return judge(run, trained.parts.test, SIZE, SIZE, lambda _: None, pixels=pixels)


@pytest.fixture(scope="session")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("plates") / "data", good=40, bad=20)


@pytest.fixture(scope="session")
def weak(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return quiet_fit(order(plates, tmp_path_factory.mktemp("weak"), Regime.WEAK))


@pytest.fixture(scope="session")
def gap_cam(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    out = tmp_path_factory.mktemp("gap-cam")
    return quiet_fit(order(plates, out, Regime.WEAK, head=Head.GAP_CAM))


class Trained:
    """A network that tells blobs from plates, what it was made from, and how it is packed."""

    def __init__(self, plates: Path, out: Path) -> None:
        learned = learn_from_folder(order(plates, out, Regime.WEAK))
        self.network = learned.network
        self.data = Labelled(load(plates, ".*"), learned.parts, 0)
        self.pack = partial(pack, self.network, Title("plates", "1", Regime.WEAK, "resnet18"))


@pytest.fixture(scope="session")
def trained(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(plates, tmp_path_factory.mktemp("learned"))


@pytest.fixture(scope="session")
def plain(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return trained.pack(trained.data, tmp_path_factory.mktemp("plain"), twins=())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `ssn-trainer` with arguments: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ssn-trainer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code
        captured = capsys.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
