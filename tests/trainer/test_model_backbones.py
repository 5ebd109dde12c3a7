"""Any of timm's backbones with features at strides 8 and 16 can stand in for ResNet18."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ssn_agent.inference.engines.ort import OrtCpuEngine
from ssn_contract.manifest import Regime
from ssn_trainer.errors import WeightsError
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import LeanHead
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone, feature_stages
from ssn_trainer.pack.export import export_onnx

from .conftest import draw_parts, learn_from_folder, order

SIDE = 32
CHANNELS = {
    "resnet18": 128 + 256,
    "resnet34": 128 + 256,
    "resnet50": 512 + 1024,
    "wide_resnet50_2": 512 + 1024,
    "mobilenetv3_large_100": 40 + 112,
    "efficientnet_lite0": 40 + 112,
}


@pytest.mark.parametrize("name", CHANNELS)
def test_its_features_lie_on_grids_of_an_eighth_and_a_sixteenth(name: str) -> None:
    extractor = Extractor(build_backbone(name, "none", 0), 1)
    assert extractor.channels == CHANNELS[name]
    layer2, layer3 = extractor.layer_shapes(70, 50)
    assert layer2[1:] == (9, 7)
    assert layer3[1:] == (5, 4)
    network = Network(extractor, LeanHead(extractor.channels, 8, 0.02, labels=True), 70, 50)
    score, anomaly_map = network.eval()(torch.zeros(2, 70, 50, 3, dtype=torch.uint8))
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 70, 50)


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "efficientnet_lite0"])
def test_it_can_be_trained_and_exported(name: str, tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "data", good=6, bad=6)
    options = {"backbone": name, "epochs": 1, "height": SIDE, "width": SIDE, "batch": 4}
    trained = learn_from_folder(order(data, tmp_path / "out", Regime.FULL, **options))
    graph = export_onnx(trained.network)
    kinds = {node.op_type for node in onnx.load_model_from_string(graph).graph.node}
    assert kinds.isdisjoint({"BatchNormalization", "Resize"})
    engine = OrtCpuEngine(graph, SIDE, SIDE)
    image = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    scores, maps = engine.run(image)
    with torch.inference_mode():
        expected_scores, expected_maps = trained.network(torch.from_numpy(image))
    np.testing.assert_allclose(scores, expected_scores.numpy(), atol=1e-3)
    np.testing.assert_allclose(maps, expected_maps.numpy(), atol=1e-3)


def test_stages_are_told_by_their_stride_wherever_they_stand() -> None:
    assert feature_stages("resnet18") == (2, 3)
    assert feature_stages("convnext_atto") == (1, 2)  # it has none of stride 2


def test_a_backbone_without_such_stages_is_refused_by_its_strides() -> None:
    with pytest.raises(WeightsError, match=r"vit_tiny_patch16_224: .* strides \[16\]"):
        build_backbone("vit_tiny_patch16_224", "none", 0)


def test_a_backbone_that_takes_no_such_images_or_gives_other_features_is_refused() -> None:
    extractor = Extractor(build_backbone("swin_tiny_patch4_window7_224", "none", 0), 1)
    with pytest.raises(WeightsError, match="the backbone takes no input of 64 x 64 pixels"):
        extractor.layer_shapes(64, 64)
    with pytest.raises(WeightsError, match="where grids of"):
        extractor.layer_shapes(224, 224)


def test_the_mean_and_spread_of_pixels_are_the_backbones_own() -> None:
    own = Extractor(build_backbone("tf_efficientnet_lite0", "none", 0), 1)
    assert own.pixel_mean == own.pixel_std == (0.5, 0.5, 0.5)
    assert own.mean.tolist() == [127.5] * 3
