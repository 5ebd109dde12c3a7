"""A fit that is killed goes on from its last finished epoch, to the very same model."""

import io
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ssn_agent.bundles.archive import Bundle
from ssn_contract.manifest import Regime
from ssn_trainer.errors import TrainingError
from ssn_trainer.fit import end_to_end, job, loop
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.job import Learned
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.state import State

from .conftest import SIZE, draw_parts, learn_from_folder, order

CHECKPOINT = "plates.checkpoint.safetensors"


class CutOff(BaseException):
    """Ends a training between two epochs, as nothing that it catches would."""


Options = dict[str, Any]


def fitted(
    data: Path, out: Path, regime: Regime = Regime.FULL, **options: Any
) -> tuple[Learned, str]:
    console = Console(file=io.StringIO(), record=True, width=1000)
    small: Options = {"height": 32, "width": 32, "batch": 4, **options}
    trained = learn_from_folder(order(data, out, regime, **small), console)
    return trained, console.export_text()


def cut_off(data: Path, out: Path, after: int, patch: pytest.MonkeyPatch, **options: Any) -> None:
    """Train until the checkpoint of an epoch is written, and no further."""
    whole = Checkpoint.write

    def write(self: Checkpoint, state: State) -> None:
        whole(self, state)
        if state.epoch == after:
            raise CutOff

    with patch.context() as cut:
        cut.setattr(Checkpoint, "write", write)
        with pytest.raises(CutOff):
            fitted(data, out, **options)


def forget(trained: Learned) -> None:
    for checkpoint in trained.checkpoints:
        checkpoint.remove()


def weights(trained: Learned) -> dict[str, Tensor]:
    return dict(trained.network.state_dict())


def content(checkpoint: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """What a checkpoint says and holds; the order in the file is its library's affair."""
    with safe_open(checkpoint, framework="pt") as file:
        header = file.metadata()
    return header, {n: v.numpy().tobytes() for n, v in load_file(checkpoint).items()}


def assert_same(first: Learned, second: Learned) -> None:
    assert first.trained == second.trained
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("few") / "data", good=12, bad=8)


@pytest.fixture(scope="module")
def features(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all features are cached."""
    out = tmp_path_factory.mktemp("cached")
    forget(fitted(few, out, epochs=1)[0])
    return out


@pytest.fixture
def out(features: Path, tmp_path: Path) -> Path:
    return shutil.copytree(features, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 3, "regime": Regime.WEAK, "adaptor": "none"},  # averaged weights, the best kept
        # Backbone and head; the second epoch looks where the map of the first is highest.
        {"epochs": 2, "regime": Regime.MIXED, "masks": 2},
        # Two optimizers, and a grid on which noise finds room.
        {"epochs": 2, "noise": "learned", "height": 64, "width": 64},
    ],
    ids=["head", "end-to-end", "learned-noise"],
)
def test_what_is_cut_off_after_any_epoch_ends_as_if_it_had_not_been(
    few: Path, out: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    uncut, _ = fitted(few, out, **options)
    state = content(out / CHECKPOINT)
    for epoch in range(1, uncut.trained.epochs + 1):
        forget(uncut)
        cut_off(few, out, epoch, monkeypatch, **options)
        resumed, said = fitted(few, out, **options)
        assert f"going on after epoch {epoch}" in said
        assert f"\nepoch {epoch}:" not in said
        assert_same(resumed, uncut)
        assert content(out / CHECKPOINT) == state  # optimizers and draws, too


def test_heads_that_were_trained_before_the_cut_are_not_trained_again(
    few: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CELL_STEPS", 16)
    options: Options = {"regime": Regime.UNSUPERVISED, "epochs": 2}
    uncut, _ = fitted(few, out, **options)
    forget(uncut)
    whole, cuts = Checkpoint.write, iter([False, False, True])  # after the second head's first

    def write(self: Checkpoint, state: State) -> None:
        whole(self, state)
        if next(cuts):
            raise CutOff

    with monkeypatch.context() as cut:
        cut.setattr(Checkpoint, "write", write)
        with pytest.raises(CutOff):
            fitted(few, out, **options)
    resumed, said = fitted(few, out, **options)
    assert "1 of 3, epoch" not in said
    assert "2 of 3, epoch 1:" not in said
    assert "2 of 3, epoch 2:" in said
    assert "3 of 3, epoch 1:" in said
    assert_same(resumed, uncut)


def test_fresh_begins_anew(few: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(few, out, 1, monkeypatch)
    _, said = fitted(few, out, fresh=True)
    assert "going on" not in said
    assert "epoch 1:" in said


@pytest.mark.parametrize("change", ["epochs", "mask", "weights", "code"])
def test_a_checkpoint_of_another_training_is_not_gone_on_with(
    few: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = shutil.copytree(few, tmp_path / "data")
    cut_off(data, out, 1, monkeypatch)
    options: dict[str, Any] = {}
    if change == "epochs":
        options = {"epochs": 3}
    elif change == "mask":
        for mask in data.rglob("*_mask.png"):
            cv2.imwrite(str(mask), np.full((SIZE, SIZE), 255, np.uint8))
    elif change == "weights":
        network = job.build_network
        monkeypatch.setattr(
            job,
            "build_network",
            lambda o, *rest: network(replace(o, seed=9), *rest),
        )
    else:
        monkeypatch.setattr("ssn_trainer.fit.checkpoint._code_digest", lambda: "other")
    _, said = fitted(data, out, **options)
    assert "of other data, settings or code; training begins anew" in " ".join(said.split())
    assert "epoch 1:" in said


def test_a_damaged_checkpoint_is_said_and_passed_over(
    few: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(few, out, 1, monkeypatch)
    path = out / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    _, said = fitted(few, out)
    assert "damaged" in said
    assert "epoch 1:" in said


@pytest.mark.parametrize(
    ("module", "options"), [(loop, {"noise": "gaussian"}), (end_to_end, {})], ids=["head", "all"]
)
def test_a_loss_that_is_no_number_keeps_the_last_good_state_and_says_where(
    few: Path, out: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, options: Options
) -> None:
    cut_off(few, out, 1, monkeypatch, **options)
    before = (out / CHECKPOINT).read_bytes()
    calls = [0]

    def sick(*arguments: Any, **options: Any) -> Tensor:
        calls[0] += 1
        return batch_loss(*arguments, **options) * (torch.nan if calls[0] == 5 else 1)

    monkeypatch.setattr(module, "batch_loss", sick)
    with pytest.raises(TrainingError, match=r"epoch 2: the loss of step 5 \(.*png.*after epoch 1"):
        fitted(few, out, **options)
    assert (out / CHECKPOINT).read_bytes() == before


def process(data: Path, out: Path) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, "-m", "ssn_trainer.cli", "fit", data, "--out", out, "--regime", "full"),
        *("--weights", "none", "--image-size", 32, "--batch", 4, "--group-by", ".*"),
        *("--name", "plates", "--bundle-version", 1, "--device", "cpu", "--epochs", 3),
        *("--precisions", "none"),
    ]
    return subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def test_a_process_killed_by_sigkill_goes_on_to_the_same_bytes(
    few: Path, out: Path, tmp_path: Path
) -> None:
    killed = process(few, out)
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("epoch 2:"):
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait(100) == -signal.SIGKILL
    killed.stderr.close()
    assert (out / CHECKPOINT).exists()
    assert not list(out.glob("*.ssn"))

    resumed = process(few, out)
    _, said = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, said
    assert "going on after epoch" in said
    assert "epoch 1:" not in said
    assert sorted(p.name for p in out.iterdir()) == ["features", "plates-1.ssn"]

    # A process as well: numpy's threads are then the same, and so is the last bit.
    uncut = process(few, tmp_path / "uncut")
    uncut.communicate(timeout=100)
    bundles = [folder / "plates-1.ssn" for folder in (out, tmp_path / "uncut")]
    models = [Bundle.open(path).read("model.onnx") for path in bundles]
    assert models[0] == models[1]
