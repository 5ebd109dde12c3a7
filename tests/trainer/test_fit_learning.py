"""A fit learns, is repeatable, and looks only at what its regime allows."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssn_agent.bundles.archive import Bundle
from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.images import load_input
from ssn_trainer.data.samples import load, load_test
from ssn_trainer.errors import TrainingError, UsageError
from ssn_trainer.fit import loop
from ssn_trainer.fit.decision import set_novelty
from ssn_trainer.fit.features import FeatureStore
from ssn_trainer.fit.job import Fitted, Learned
from ssn_trainer.measure.metrics import image_metrics
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import LeanHead, Novelty, SuperSimpleNetHead
from ssn_trainer.model.weights import build_backbone
from support.pictures import draw

from .conftest import SIZE, draw_parts, judge_test_part, learn_from_folder, order, quiet_fit


def model(fitted: Fitted) -> bytes:
    return Bundle.open(fitted.packed.path).read("model.onnx")


def figure(fitted: Fitted, name: str) -> float:
    value = fitted.packed.metrics[name]
    assert value is not None
    return value


def test_weak_training_finds_blobs_on_parts_it_has_not_seen(weak: Fitted) -> None:
    assert Bundle.open(weak.packed.path).manifest.head is Head.LEAN
    assert figure(weak, "i_auroc") > 0.9
    assert figure(weak, "p_auroc") > 0.8


@pytest.fixture(scope="module")
def unsupervised(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CELL_STEPS", 48)  # enough for small pictures
        return learn_from_folder(
            order(plates, tmp_path_factory.mktemp("unsupervised"), Regime.UNSUPERVISED)
        )


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps enough where it does not matter what is learned."""
    monkeypatch.setattr(loop, "_CELL_STEPS", 8)


def test_unsupervised_training_finds_blobs_it_was_never_shown(unsupervised: Learned) -> None:
    judged = judge_test_part(unsupervised)
    assert (image_metrics(judged.of("bad"), judged.scores)["i_auroc"] or 0) > 0.75


def test_gap_cam_learns_from_image_labels_alone(gap_cam: Fitted) -> None:
    manifest = Bundle.open(gap_cam.packed.path).manifest
    assert manifest.head is Head.GAP_CAM
    assert manifest.variant is None
    assert figure(gap_cam, "i_auroc") > 0.9


def test_weak_training_gives_the_same_model_when_the_masks_are_gone(
    plates: Path, weak: Fitted, tmp_path: Path
) -> None:
    bare = shutil.copytree(plates, tmp_path / "bare", ignore=shutil.ignore_patterns("*_mask.png"))
    fitted = quiet_fit(order(bare, tmp_path / "out", Regime.WEAK))
    assert model(fitted) == model(weak)
    assert fitted.packed.threshold == weak.packed.threshold
    assert fitted.packed.metrics["p_auroc"] is None
    assert fitted.packed.metrics["i_auroc"] == weak.packed.metrics["i_auroc"]


def test_the_published_preset_trains_the_published_head(tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "data", good=12, bad=8)
    options: dict[str, Any] = {"preset": "published", "variant": "icpr", "epochs": 1}
    small = {"height": 32, "width": 32}
    trained = learn_from_folder(order(data, tmp_path / "out", Regime.WEAK, **options, **small))
    assert isinstance(trained.network.head, SuperSimpleNetHead)
    assert trained.network.head.variant == "icpr"


def test_another_seed_gives_another_split_and_another_model(plates: Path, tmp_path: Path) -> None:
    one, other = (
        learn_from_folder(order(plates, tmp_path, Regime.WEAK, seed=seed, epochs=1, fresh=True))
        for seed in (0, 1)
    )
    weights = [trained.network.head.state_dict() for trained in (one, other)]
    assert not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert one.parts.test != other.parts.test


def test_gap_cam_without_bad_images_is_refused(plates: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gap-cam"):
        quiet_fit(order(plates, tmp_path, Regime.UNSUPERVISED, head=Head.GAP_CAM))


@pytest.mark.usefixtures("few_steps")
def test_a_marked_test_part_is_never_read_by_fit(plates: Path, tmp_path: Path) -> None:
    data = tmp_path / "mvtec"
    shutil.copytree(plates / "good", data / "train" / "good")
    for kind in ("good", "blob"):
        (data / "test" / kind).mkdir(parents=True)
    draw_parts(tmp_path / "more", good=4, bad=4, seed=1)
    for path in (tmp_path / "more").glob("*/*.png"):
        shutil.copy(path, data / "test" / path.parent.name / path.name)
    fitted = quiet_fit(order(data, tmp_path / "out", None, epochs=1))
    assert fitted.regime is Regime.UNSUPERVISED
    assert set(fitted.packed.metrics.values()) == {None}
    cached = {p.name.split("-")[0] for p in (tmp_path / "out" / "features").rglob("*.safetensors")}
    tested = {s.digest for s in load_test(data).samples}
    assert len(tested) == 8
    assert not cached & tested
    assert not fitted.data.split.test


def test_a_loss_that_is_no_number_stops_the_fit_and_leaves_no_bundle(
    plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loop, "batch_loss", lambda head, *_, **__: next(head.parameters()).sum() * torch.nan
    )
    with pytest.raises(TrainingError, match="epoch 1"):
        quiet_fit(order(plates, tmp_path, Regime.WEAK))
    assert not list(tmp_path.glob("*.ssn"))


def test_a_cached_entry_that_is_damaged_or_of_another_shape_is_computed_again(
    plates: Path, tmp_path: Path
) -> None:
    extractor = Extractor(build_backbone("resnet18", "none", 0), 1)
    samples = load(plates, ".*").samples[:3]

    def layers() -> tuple[Tensor, Tensor]:
        store = FeatureStore(extractor, tmp_path, 64, 64, torch.device("cpu"))
        store.fill(samples, flips=True, advance=lambda _: None)
        return store.batch(samples * 4, [flip for flip in range(4) for _ in samples])

    first = layers()
    cut, gone, smaller, single, sick, *_ = sorted(tmp_path.rglob("*.safetensors"))
    cut.write_bytes(cut.read_bytes()[:100])
    gone.unlink()
    whole = load_file(single)
    save_file({name: layer[:4].clone() for name, layer in whole.items()}, smaller)
    save_file({"layer2": whole["layer2"]}, single)
    save_file({name: torch.full_like(layer, torch.nan) for name, layer in whole.items()}, sick)
    for before, after in zip(first, layers(), strict=True):
        assert torch.equal(before, after)


def test_features_of_other_weights_or_of_what_an_image_was_before_are_not_taken_from_the_cache(
    tmp_path: Path,
) -> None:
    data = draw_parts(tmp_path / "data", good=1, bad=0)
    cache = tmp_path / "cache"

    def layer2(seed: int, folder: Path) -> Tensor:
        extractor = Extractor(build_backbone("resnet18", "none", seed), 1)
        store = FeatureStore(extractor, folder, 64, 64, torch.device("cpu"))
        samples = load(data, ".*").samples
        store.fill(samples, flips=False, advance=lambda _: None)
        return store.batch(samples, [0])[0]

    first, other = layer2(0, cache), layer2(1, cache)
    assert not torch.equal(first, other)
    (image,) = data.glob("good/*.png")
    draw(image, seed=5)
    changed = layer2(0, cache)
    assert not torch.equal(first, changed)
    assert torch.equal(changed, layer2(0, tmp_path / "empty"))


def test_features_wait_in_their_files_and_one_that_has_gone_is_said(
    plates: Path, tmp_path: Path
) -> None:
    extractor = Extractor(build_backbone("resnet18", "none", 0), 1)
    samples = load(plates, ".*").samples[:1]
    store = FeatureStore(extractor, tmp_path, 64, 64, torch.device("cpu"))
    store.fill(samples, flips=False, advance=lambda _: None)
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.unlink()
    with pytest.raises(TrainingError, match=f"{kept}: .* run the same command again"):
        store.batch(samples, [0])


def test_features_that_are_no_numbers_are_said_with_their_image(
    plates: Path, tmp_path: Path
) -> None:
    extractor = Extractor(build_backbone("resnet18", "none", 0), 1)
    with torch.no_grad():
        next(iter(extractor.backbone.parameters())).fill_(torch.nan)
    samples = load(plates, ".*").samples[:1]
    store = FeatureStore(extractor, tmp_path, 64, 64, torch.device("cpu"))
    with pytest.raises(TrainingError, match=rf"{samples[0].path}: .* not numbers"):
        store.fill(samples, flips=False, advance=lambda _: None)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_mirror_images_have_features_of_their_own(plates: Path, tmp_path: Path) -> None:
    extractor = Extractor(build_backbone("resnet18", "none", 0), 1)
    samples = load(plates, ".*").samples[:1]
    store = FeatureStore(extractor, tmp_path, 64, 64, torch.device("cpu"))
    store.fill(samples, flips=True, advance=lambda _: None)
    pixels = load_input(samples[0], 64, 64)
    for flip, mirrored in enumerate([pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]]):
        with torch.inference_mode():
            expected, _ = extractor.layers(torch.from_numpy(mirrored.copy())[None])
        stored, _ = store.batch(samples, [flip])
        assert torch.allclose(stored.float(), expected, atol=0.05 * float(expected.max()))
        assert not torch.equal(stored, store.batch(samples, [(flip + 1) % 4])[0])


def test_the_bundle_lists_every_image_with_its_part(weak: Fitted) -> None:
    listed = json.loads(Bundle.open(weak.packed.path).read("data.json"))
    split = weak.data.split
    for part in ("train", "tune", "test"):
        samples = getattr(split, part)
        assert [i["digest"] for i in listed["parts"][part]] == [s.digest for s in samples]


def test_the_bundle_tells_recipe_and_masks_to_programs_too(weak: Fitted) -> None:
    settings = json.loads(Bundle.open(weak.packed.path).read("data.json"))["settings"]
    told = [settings[name] for name in ("preset", "weights", "batch", "noise_member", "masks")]
    assert told == ["default", "none", 8, True, 0]


def test_without_labels_the_map_weighs_twice_the_novelty_over_good_tune_images(
    unsupervised: Learned,
) -> None:
    head = unsupervised.network.head
    assert isinstance(head, LeanHead)
    assert isinstance(head.pooled, Novelty)
    good = [s for s in unsupervised.parts.tune if s.label == "good"]
    image = torch.from_numpy(np.stack([load_input(s, SIZE, SIZE) for s in good]))
    with torch.inference_mode():
        network = unsupervised.network
        features = network.features(*network.extractor.layers(image))
        learned_map = head.segmentation(head.adaptor(features))
        most = head.pooled(head.statistics(features)).flatten(1).amax(dim=1)
    terms = head.highest(learned_map).std(), most.std()
    assert terms[0].item() == pytest.approx(2 * terms[1].item(), rel=0.1)


@pytest.mark.usefixtures("few_steps")
def test_with_too_few_good_images_to_tune_on_novelty_stays_out_and_that_is_said(
    tmp_path: Path,
) -> None:
    data = draw_parts(tmp_path / "data", good=12, bad=0)
    console = Console(file=io.StringIO(), record=True, width=300)
    wanted = order(data, tmp_path / "out", Regime.UNSUPERVISED, epochs=1)
    head = learn_from_folder(wanted, console).network.head
    assert isinstance(head, LeanHead)
    assert isinstance(head.pooled, Novelty)
    assert head.pooled.weight.item() == 0.0
    assert "good images to tune on: the score is the map's alone" in console.export_text()


def test_novelty_of_a_narrow_backbone_leaves_something_beside_its_directions() -> None:
    values = torch.randn(500, 16, generator=torch.Generator().manual_seed(3)).double()
    novelty = Novelty(16, 256)
    set_novelty(novelty, iter([values]), 256)
    assert int(novelty.basis.abs().sum(dim=1).count_nonzero()) == 4


def test_novelty_keeps_what_good_parts_differ_in_most_however_the_images_are_batched() -> None:
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(4000, 1, generator=generator).double()
    values = torch.cat([3 + shared, 5 - 2 * shared], dim=1)  # [4000, 2]: these two go together
    values = torch.cat([values, torch.randn(4000, 1, generator=generator).double()], dim=1)
    values = torch.cat([values, torch.ones(4000, 1).double()], dim=1)  # one that never varies
    novelty, at_once = Novelty(4, 1), Novelty(4, 1)
    set_novelty(novelty, iter(torch.split(values, 300)), 1)
    set_novelty(at_once, iter([values]), 1)
    assert novelty.mean.tolist() == pytest.approx(values.mean(dim=0).tolist(), abs=1e-5)
    assert novelty.scale.tolist() == pytest.approx(
        [*values[:, :3].std(dim=0, correction=0).tolist(), 1.0], abs=1e-5
    )
    assert novelty.basis[0].abs().tolist() == pytest.approx([0.707, 0.707, 0, 0], abs=0.1)
    assert torch.allclose(novelty.residual(values), at_once.residual(values), atol=1e-4)
    apart, together = values[:1].clone(), values[:1].clone()
    apart[0, 1] += 4.0
    together[0, :2] += torch.tensor([2.0, -4.0])
    assert novelty.residual(together).item() == pytest.approx(
        novelty.residual(values[:1]).item(), abs=0.1
    )
    assert novelty.residual(apart).item() > novelty.residual(together).item() + 0.3
