"""A backbone learns from masks: from crops that show what their truth says, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.errors import TrainingError
from ssn_trainer.fit import end_to_end
from ssn_trainer.fit.job import CACHE, Learned, build_network
from ssn_trainer.fit.recipe import Preset, make_recipe
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.model.network import Network

from .conftest import SIZE, judge_test_part, learn_from_folder, order


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that features are computed once."""
    return tmp_path_factory.mktemp("end-to-end")


def backbone(network: Network) -> dict[str, Tensor]:
    return network.extractor.backbone.state_dict()


def ap_loc(trained: Learned) -> float:
    judged = judge_test_part(trained, pixels=True)
    assert judged.pixels is not None
    found = judged.pixels.metrics()["ap_loc"]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("regime", "head", "preset", "trained"),
    [
        (Regime.FULL, None, "default", True),
        (Regime.MIXED, None, "default", True),
        (Regime.WEAK, None, "default", False),
        (Regime.UNSUPERVISED, None, "default", False),
        (Regime.FULL, Head.SUPERSIMPLENET, "default", False),
        (Regime.FULL, None, "published", False),
    ],
)
def test_only_with_masks_and_the_default_head_is_the_backbone_trained(
    regime: Regime, head: Head | None, preset: Preset, trained: bool
) -> None:
    assert (make_recipe(preset, head, regime, None, None).lr_backbone > 0) is trained


def test_a_backbone_learns_but_for_its_batch_norms_statistics_and_leaves_no_features_behind(
    plates: Path, out: Path
) -> None:
    wanted = order(plates, out, Regime.FULL, fresh=True)
    recipe = make_recipe("default", None, Regime.FULL, None, None)
    before = backbone(build_network(wanted, recipe, Regime.FULL))
    trained = learn_from_folder(wanted)
    after = backbone(trained.network)
    statistics = [name for name in before if "running" in name or "tracked" in name]
    assert statistics
    for name, value in before.items():
        assert torch.equal(after[name], value) is (name in statistics), name
    assert not any(p.requires_grad for p in trained.network.extractor.parameters())
    (kept,) = (out / CACHE).iterdir()  # of the backbone as it was, for the next fit
    assert len(list(kept.iterdir())) == sum(s.label == "good" for s in trained.parts.train)


def test_a_gradient_that_is_no_number_stops_the_training_and_leaves_the_last_good_state(
    plates: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    wanted = order(plates, out, Regime.FULL, fresh=True)
    with pytest.raises(TrainingError, match="the gradient of step 1"):
        learn_from_folder(wanted)
    assert not list(out.glob("*.checkpoint.safetensors"))


def test_a_trained_backbone_shows_defects_more_exactly_than_a_frozen_one(
    plates: Path, out: Path
) -> None:
    wanted = order(plates, out, Regime.FULL, fresh=True, epochs=25)
    frozen = replace(wanted, adaptor="none", epochs=8)
    assert ap_loc(learn_from_folder(wanted)) > ap_loc(learn_from_folder(frozen)) + 0.02


def crops(
    samples: list[Sample],
    size: int,
    flip: int,
    seed: int,
    suspects: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[Tensor, Truth]:
    wanted = order(Path(), Path(), Regime.FULL, height=size, width=size)
    recipe = make_recipe("default", None, Regime.FULL, None, None)
    network = build_network(wanted, recipe, Regime.FULL)
    _, rows, columns = network.extractor.layer_shapes(size, size)[0]
    truths = Truths(samples, (rows, columns), 0.25)
    flips, draws = [flip] * len(samples), np.random.default_rng(seed)
    return end_to_end._crops(network, samples, flips, truths, suspects, draws)


@pytest.mark.parametrize("size", [SIZE, 100, 512])  # 100: no whole number of cells
@pytest.mark.parametrize("flip", range(4))
def test_a_crop_shows_a_defect_where_its_truth_says_so(
    plates: Path, monkeypatch: pytest.MonkeyPatch, size: int, flip: int
) -> None:
    monkeypatch.setattr(end_to_end, "_JITTER", 0.0)
    bad = [s for s in load(plates, ".*").samples if s.label == "bad"]
    pixels, truth = crops(bad, size, flip, seed=flip)
    assert truth.bad.all()
    assert (truth.coverage.flatten(1).amax(dim=1) > 0).all()
    height, width = pixels.shape[1:3]
    assert (-(-height // 8), -(-width // 8)) == truth.coverage.shape[1:]
    # A blob is 220 bright, a plate 128 and never so over a whole cell.
    cells = torch.nn.functional.interpolate(
        pixels[:, None, :, :, 0], truth.coverage.shape[1:], mode="area"
    )[:, 0]
    assert (cells[truth.coverage > 0.95] > 160).all()
    assert (cells[truth.coverage == 0] < 190).all()


def test_crops_of_large_images_are_small_and_of_small_ones_almost_whole(plates: Path) -> None:
    samples = list(load(plates, ".*").samples[:2])
    assert crops(samples, 512, 0, 0)[0].shape == (2, 320, 320, 3)
    assert crops(samples, 64, 0, 0)[0].shape == (2, 48, 48, 3)


def test_bad_images_without_masks_take_part_once_the_map_can_tell_where_to_look(
    plates: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[set[str]] = []
    whole = end_to_end._walk

    def spy(network: Network, samples: list[Sample], *rest: Any) -> float:
        epochs.append({s.name for s in samples if s.label == "bad"})
        return whole(network, samples, *rest)

    monkeypatch.setattr(end_to_end, "_walk", spy)
    trained = learn_from_folder(order(plates, out, Regime.MIXED, masks=3, fresh=True, epochs=4))
    assert trained.masks == 3
    assert [len(names) for names in epochs] == [3, 12, 12, 12]


@pytest.mark.parametrize("flip", range(4))
def test_a_bad_image_without_a_mask_is_cropped_about_its_suspect_and_says_no_more(
    plates: Path, monkeypatch: pytest.MonkeyPatch, flip: int
) -> None:
    monkeypatch.setattr(end_to_end, "_JITTER", 0.0)
    bad = [s for s in load(plates, ".*").samples if s.label == "bad"]
    suspects = {}
    for sample in bad:
        marks = Truths([sample], (SIZE, SIZE), 0.25).batch([sample], [0]).coverage
        suspects[sample.name] = marks == marks.max()
    bare = [replace(s, mask=None) for s in bad]
    pixels, truth = crops(bare, 512, flip, flip, suspects)
    assert truth.bad.all()
    assert not truth.known.any()
    assert not truth.coverage.any()
    assert (pixels.flatten(1).amax(dim=1) > 200).all()  # the blob is there
