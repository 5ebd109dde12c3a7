"""The parts of the network have the papers' shapes, and gradients flow only where they should."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssn_contract.manifest import Head, Regime
from ssn_trainer.errors import WeightsError
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import make_recipe
from ssn_trainer.fit.truth import Truth
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import (
    GapCamHead,
    LeanHead,
    Novelty,
    SuperSimpleNetHead,
    Variant,
    sum_head,
    windows,
)
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return build_backbone("resnet18", "none", 0)


def unmasked(bad: Tensor, side: int = 8) -> Truth:
    """Bad images without masks, good ones beside them."""
    nothing = torch.zeros(len(bad), side, side, dtype=torch.bool)
    return Truth(bad, nothing, nothing | ~bad[:, None, None], nothing.float())


def ssn_head(variant: Variant = "jims") -> SuperSimpleNetHead:
    torch.manual_seed(0)
    return SuperSimpleNetHead(24, 16, 8, variant)


@pytest.mark.parametrize("upscale", [1, 2])
def test_both_layers_meet_on_one_grid_that_is_a_multiple_of_layer_2s(
    backbone: nn.Module, upscale: int
) -> None:
    extractor = Extractor(backbone, upscale)
    image = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    layer2, layer3 = extractor.layers(image)
    assert layer2.shape == (2, 128, 8, 12)
    assert layer3.shape == (2, 256, 4, 6)
    assert extractor(image).shape == (2, 384, 8 * upscale, 12 * upscale)


def test_sizes_that_the_strides_do_not_divide_are_taken(backbone: nn.Module) -> None:
    image = torch.zeros(1, 70, 50, 3, dtype=torch.uint8)
    network = Network(Extractor(backbone, 1), LeanHead(384, 8, 0.02, labels=True), 70, 50)
    score, anomaly_map = network.eval()(image)
    assert score.shape == (1,)
    assert anomaly_map.shape == (1, 70, 50)


def test_the_extractor_stays_frozen_when_its_network_is_set_to_train(backbone: nn.Module) -> None:
    extractor = Extractor(backbone, 1).train()
    assert not any(module.training for module in extractor.backbone.modules())
    assert not any(p.requires_grad for p in extractor.parameters())


def test_the_mean_of_heads_is_one_head_with_the_mean_of_their_maps(
    generator: torch.Generator,
) -> None:
    heads = [LeanHead(24, 16, 0.02, labels=False, directions=5) for _ in range(3)]
    for head in heads:
        for name, value in head.segmentation.state_dict().items():
            if value.is_floating_point():  # batch norm as if it had seen images, too
                value.copy_(torch.rand(value.shape, generator=generator) + ("var" in name))
        nn.init.normal_(head.adaptor.get_parameter("bias"), generator=generator)
    features = torch.randn(2, 24, 8, 8, generator=generator)
    maps = [head.eval()(features)[1] for head in heads]
    mean = sum_head(heads, [1 / len(heads)] * len(heads))
    score, anomaly_map = mean(features)
    assert not any(module.training for module in mean.modules())
    assert torch.allclose(anomaly_map, sum(maps) / 3, atol=1e-5)
    assert torch.allclose(score, mean.highest(anomaly_map))
    assert isinstance(mean.pooled, Novelty)
    assert mean.pooled.basis.shape == (5, 72)


def test_maps_from_labels_and_from_noise_add_up_by_their_weights(
    generator: torch.Generator,
) -> None:
    labelled = LeanHead(24, 16, 0.02, "none", labels=True)
    noise = LeanHead(24, 8, 0.02, labels=False, directions=5)
    nn.init.normal_(noise.adaptor.get_parameter("bias"), generator=generator)
    features = torch.randn(2, 24, 8, 8, generator=generator)
    both = sum_head([labelled.eval(), noise.eval()], [1.0, 0.3])
    _, anomaly_map = both(features)
    wanted = labelled(features)[1] + 0.3 * noise(features)[1]
    assert torch.allclose(anomaly_map, wanted, atol=1e-5)
    assert isinstance(both.pooled, nn.Linear)


def test_a_flat_map_stays_flat_up_to_the_border(backbone: nn.Module) -> None:
    network = Network(Extractor(backbone, 1), ssn_head(), 64, 96)
    enlarged = network.enlarge(torch.full((1, 1, 8, 12), 3.0))
    assert enlarged.shape == (1, 64, 96)
    assert torch.allclose(enlarged, torch.full_like(enlarged, 3.0), atol=1e-5)


def test_the_score_of_gap_cam_is_the_mean_of_its_map() -> None:
    head = GapCamHead(24, 8).eval()
    score, activation = head(torch.randn(3, 24, 8, 8))
    assert torch.allclose(score, activation.mean(dim=(1, 2, 3)))


def test_the_lean_score_is_the_mean_of_the_highest_cells() -> None:
    anomaly_map = torch.zeros(2, 1, 16, 16)
    anomaly_map[1, 0, 3, 4], anomaly_map[1, 0, 9, 9] = 6.0, 4.0  # 0.8 % of 256 cells: two
    assert LeanHead(24, 8, 0.008, labels=True).highest(anomaly_map).tolist() == [0.0, 5.0]


def test_the_lean_head_adds_pooled_features_where_labels_teach_them() -> None:
    features = torch.randn(3, 24, 8, 8)
    head = LeanHead(24, 8, 0.02, labels=True).eval()
    assert isinstance(head.pooled, nn.Linear)
    head.pooled.weight.data[0, 24 + 5] = 2.0  # the standard deviation of the sixth channel
    score, anomaly_map = head(features)
    expected = head.highest(anomaly_map) + 2 * features[:, 5].flatten(1).std(dim=1, correction=0)
    assert torch.allclose(score, expected, atol=1e-5)
    assert not any(p.requires_grad for p in head.pooled.parameters())


def test_novelty_is_what_lies_beside_the_directions_that_good_parts_differ_in() -> None:
    novelty = Novelty(3, 1)
    novelty.basis.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
    novelty.scale.copy_(torch.tensor([1.0, 2.0, 1.0]))
    along, beside = torch.tensor([[9.0, 0.0, 1.0]]), torch.tensor([[0.0, 6.0, 1.0]])
    assert novelty.residual(along).item() == pytest.approx(math.log(1 / 3))
    assert novelty.residual(beside).item() == pytest.approx(math.log(10 / 3))
    assert novelty(beside).item() == 0.0  # it has no weight yet
    novelty.weight.fill_(2.0)
    assert novelty(beside).item() == pytest.approx(2 * math.log(10 / 3))


def test_windows_leave_no_cell_out_and_share_some_where_they_do_not_divide_a_side() -> None:
    cells = torch.arange(8.0 * 6).reshape(1, 1, 8, 6)
    found = windows(cells)
    assert found.shape == (1, 4, 4, 1, 2, 3)
    assert found[0, 1, 3, 0].tolist() == [[15, 16, 17], [21, 22, 23]]
    assert set(found.flatten().tolist()) == set(range(48))
    assert windows(torch.ones(1, 1, 2, 1)).shape == (1, 2, 1, 1, 1, 1)


def test_what_is_new_in_one_window_is_in_the_score_and_in_the_map_there() -> None:
    head = LeanHead(3, 8, 0.02, labels=False, directions=2).eval()
    assert isinstance(head.pooled, Novelty)
    features = torch.randn(1, 3, 16, 16)
    head.pooled.weight.fill_(2.0)
    features[:, :, 12:, :4] *= 10  # last row of windows, first column
    plain = head.segmentation(head.adaptor(features))
    score, anomaly_map = head(features)
    added = anomaly_map - plain
    novelty = head.pooled(head.statistics(features))
    assert novelty.shape == (1, 4, 4)
    assert novelty.argmax().item() == 12
    assert torch.allclose(score, head.highest(plain) + novelty.max())
    assert torch.allclose(added[0, 0, 14:, :2], novelty.max())  # the corner of that window
    assert added.max() <= novelty.max() + 1e-5


@pytest.mark.parametrize(("variant", "adapted_matters"), [("icpr", True), ("jims", False)])
def test_the_variant_decides_which_features_the_classification_head_sees(
    variant: Variant, adapted_matters: bool
) -> None:
    head = ssn_head(variant).eval()
    features, adapted, other = torch.randn(3, 2, 24, 8, 8)
    anomaly_map = torch.zeros(2, 1, 8, 8)
    same = torch.equal(
        head.classify(features, adapted, anomaly_map), head.classify(features, other, anomaly_map)
    )
    assert same is not adapted_matters


@pytest.mark.parametrize("supervised", [False, True])
def test_the_score_shapes_the_map_in_supervised_training_only(
    supervised: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = ssn_head()
    regime = Regime.WEAK if supervised else Regime.UNSUPERVISED
    recipe = make_recipe("published", Head.SUPERSIMPLENET, regime, None, None)
    # Without the map's own losses, what reaches the segmentation head comes from the score.
    monkeypatch.setattr("ssn_trainer.fit.loss.truncated_l1", lambda values, *_: values.sum() * 0)
    whole = batch_loss.__globals__["focal"]
    monkeypatch.setattr(
        "ssn_trainer.fit.loss.focal",
        lambda logits, *args, **kwargs: (
            whole(logits, *args, **kwargs) if logits.dim() == 1 else logits.sum() * 0
        ),
    )
    features = torch.randn(8, 24, 8, 8)
    bad = torch.arange(8) % 2 == 0
    truth = unmasked(bad)
    loss = batch_loss(head, features, truth, recipe, generator, supervised=supervised)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    first = head.segmentation[0]
    assert isinstance(first, nn.Conv2d)
    assert first.weight.grad is not None
    reaches = bool(first.weight.grad.abs().sum() > 0)
    assert reaches is supervised


def test_a_weights_file_is_taken_as_given(backbone: nn.Module, tmp_path: Path) -> None:
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    again = build_backbone("resnet18", str(tmp_path / "w.safetensors"), 5)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_weights_that_do_not_fit_are_an_error_that_names_them(
    backbone: nn.Module, tmp_path: Path
) -> None:
    part = dict(list(backbone.state_dict().items())[:5])
    save_file(part, tmp_path / "part.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors here")
    for name in ("part.safetensors", "noise.safetensors", "absent.safetensors"):
        with pytest.raises(WeightsError, match=name):
            build_backbone("resnet18", str(tmp_path / name), 0)


def test_a_backbone_that_timm_does_not_know_is_an_error_that_names_it() -> None:
    with pytest.raises(WeightsError, match="resnet81"):
        build_backbone("resnet81", "none", 0)
