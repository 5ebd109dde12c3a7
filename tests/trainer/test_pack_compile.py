"""Every rewrite of the compiled network is exact, alone and together."""

from typing import Literal

import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn

from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import (
    Adaptor,
    AnyHead,
    GapCamHead,
    LeanHead,
    Novelty,
    SuperSimpleNetHead,
)
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack.compile import merged as merged_module
from ssn_trainer.pack.compile.affine import Affine, Convolution, after, convolution, standardisation
from ssn_trainer.pack.compile.grids import Enlarge, Merge
from ssn_trainer.pack.compile.heads import PooledTerm
from ssn_trainer.pack.compile.merged import Grid, Merged, MergedConvolution, merge_modules
from ssn_trainer.pack.compile.network import compile_network
from ssn_trainer.pack.compile.pixels import PixelBackbone
from ssn_trainer.pack.export import export_onnx

HEIGHT, WIDTH = 70, 50
"""Neither is divided by the strides: layer2 is 9 x 7 and layer3 5 x 4."""
ADAPTORS: tuple[Adaptor, ...] = ("linear", "nonlinear", "none")
CASES = [
    *(("lean, labels", adaptor) for adaptor in ADAPTORS),
    *(("lean, novelty", adaptor) for adaptor in ADAPTORS),
    *(("icpr", adaptor) for adaptor in ADAPTORS),
    *(("jims", adaptor) for adaptor in ADAPTORS),
    ("gap-cam", "none"),
]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    made = build_backbone("resnet18", "none", 0)
    settle(made)
    return made


def settle(module: nn.Module) -> None:
    """Make batch norms what training makes them: not the identity."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            state = norm.state_dict()
            state["running_mean"].normal_(0, 0.2)
            state["running_var"].uniform_(0.5, 1.5)
            state["weight"].uniform_(0.5, 1.5)
            state["bias"].normal_(0, 0.2)
    module.eval()


def set_pooled(head: LeanHead) -> None:
    """Give the pooled term what training sets it to."""
    pooled = head.pooled
    if isinstance(pooled, Novelty):
        pooled.mean.normal_()
        pooled.scale.uniform_(0.5, 2)
        pooled.basis.copy_(torch.linalg.qr(torch.randn(pooled.basis.shape).T)[0].T)
        pooled.weight.fill_(0.7)
    else:
        pooled.weight.data.normal_(0, 0.05)
        pooled.bias.data.fill_(0.3)


def network(backbone: nn.Module, kind: str, adaptor: Adaptor, upscale: int) -> Network:
    extractor = Extractor(backbone, upscale)
    channels = extractor.channels
    head: AnyHead
    if kind == "gap-cam":
        head = GapCamHead(channels, 12)
    elif kind.startswith("lean"):
        labels = kind == "lean, labels"
        head = LeanHead(channels, 24, 0.02, adaptor, labels=labels, directions=8)
        set_pooled(head)
    else:
        variant: Literal["icpr", "jims"] = "icpr" if kind == "icpr" else "jims"
        head = SuperSimpleNetHead(channels, 24, 6, variant, adaptor)
    settle(head)
    whole = Network(extractor, head, HEIGHT, WIDTH).eval()
    with torch.inference_mode():
        features = extractor(images())
    std = features.std(dim=(0, 2, 3))
    whole.set_statistics(features.mean(dim=(0, 2, 3)), std.clamp(min=0.1 * float(std.median())))
    return whole


def images(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (count, HEIGHT, WIDTH, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("upscale", [1, 2])
@pytest.mark.parametrize(("kind", "adaptor"), CASES)
def test_the_compiled_network_computes_what_the_trained_one_does(
    backbone: nn.Module, kind: str, adaptor: Adaptor, upscale: int
) -> None:
    whole = network(backbone, kind, adaptor, upscale)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    compiled = compile_network(whole)
    with torch.inference_mode():
        expected, found = whole(images()), compiled(images())
    assert expected[0].std() > 1e-4  # a score that says nothing would prove nothing
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-3, rtol=0)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("upscale", [1, 2])
def test_merging_is_two_small_matrix_products(backbone: nn.Module, upscale: int) -> None:
    layer2, layer3 = torch.randn(2, 5, 9, 7), torch.randn(2, 3, 5, 4)
    size = 9 * upscale, 7 * upscale
    expected = Extractor(backbone, upscale).merge(layer2, layer3)
    found = [Merge((9, 7), size)(layer2), Merge((5, 4), size)(layer3)]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [1.2, 4.0, 30.0])
def test_enlarging_and_smoothing_is_two_small_matrix_products(
    backbone: nn.Module, sigma: float
) -> None:
    """A Gaussian wider than the image, too."""
    head = LeanHead(384, 8, 0.02, labels=True)
    whole = Network(Extractor(backbone, 1), head, HEIGHT, WIDTH, smoothing=sigma)
    anomaly_map = torch.randn(2, 1, 9, 7)
    found = Enlarge((9, 7), (HEIGHT, WIDTH), whole.kernel)(anomaly_map)
    torch.testing.assert_close(found, whole.enlarge(anomaly_map), atol=1e-5, rtol=0)


def test_a_batch_norm_is_part_of_the_convolution_before_it() -> None:
    layer, norm = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
    settle(norm)
    values = torch.randn(2, 4, 9, 7)
    with torch.inference_mode():
        found = convolution(layer, norm).module()(values)
        torch.testing.assert_close(found, norm(layer(values)), atol=1e-5, rtol=0)


def test_standardisation_and_linear_adaptor_are_one_linear_map() -> None:
    adaptor = nn.Conv2d(4, 5, kernel_size=1)
    mean, std, values = torch.randn(4), torch.rand(4) + 0.5, torch.randn(2, 4, 9, 7)
    one = standardisation(mean, std).then(adaptor)
    with torch.inference_mode():
        expected = adaptor((values - mean[:, None, None]) / std[:, None, None])
        found = Convolution(one.weight[..., None, None], one.bias).module()(values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_a_linear_map_before_a_padded_convolution_is_exact_up_to_the_border(taps: int) -> None:
    before = Affine(torch.randn(4, 3).double(), torch.randn(4).double())
    layer = Convolution(torch.randn(6, 4, taps, taps).double(), torch.randn(6).double())
    values = torch.randn(2, 3, 9, 7).double()
    between = torch.einsum("dc,nchw->ndhw", before.weight, values) + before.bias[:, None, None]
    expected = F.conv2d(between, layer.weight, layer.bias, padding=taps // 2)
    one = after(before, layer, (9, 7))
    bias = one.bias if taps > 1 else one.bias[:, None, None]
    found = F.conv2d(values, one.weight, padding=taps // 2) + bias
    torch.testing.assert_close(found, expected)
    assert one.bias.dim() == (3 if taps > 1 else 1)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("bordered", [True, False])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_a_convolution_over_merged_features_may_mix_channels_on_each_layers_own_grid(
    taps: int, bordered: bool, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_module, "_on_own_grid_is_less", lambda *_, **__: early)
    grids = [Grid(4, (9, 7), (9, 7)), Grid(3, (5, 4), (9, 7))]
    layers = [torch.randn(2, 4, 9, 7), torch.randn(2, 3, 5, 4)]
    merges = list(merge_modules(grids))
    weight = torch.randn(6, 7, taps, taps).double()
    bias = torch.randn(6, 9, 7) if bordered else torch.randn(6)
    with torch.no_grad():
        whole = Convolution(weight, bias.double())
        found = MergedConvolution(whole, grids, merged_anyway=False)(Merged(layers, merges))
        features = torch.cat([merge(x) for merge, x in zip(merges, layers, strict=True)], dim=1)
        expected = F.conv2d(features, weight.float(), padding=taps // 2)
    expected = expected + (bias if bordered else bias[:, None, None])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("channels", "size", "is_less"),
    [(256, 16, True), (16, 16, False), (256, 32, False)],
    ids=["many channels", "few: the products between grids are most of it", "the same grid"],
)
def test_channels_are_mixed_on_the_layers_grid_only_where_that_is_less_work(
    channels: int, size: int, is_less: bool
) -> None:
    grid = Grid(channels, (size, size), (32, 32))
    weight = torch.empty(64, channels, 1, 1, device="meta")
    chosen = merged_module._on_own_grid_is_less(weight, grid, merged_anyway=True)
    assert chosen is is_less


@pytest.mark.parametrize("labels", [True, False])
def test_pooled_statistics_are_standardised_after_they_are_pooled(labels: bool) -> None:
    head = LeanHead(7, 8, 0.02, labels=labels, directions=3)
    set_pooled(head)
    mean, std = torch.randn(7), torch.rand(7) + 0.5
    layers = [torch.randn(4, 3, 9, 7) + 2, torch.randn(4, 4, 9, 7) - 1]
    features = (torch.cat(layers, dim=1) - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = head.pooled(head.statistics(features))
        found = PooledTerm(head.pooled, standardisation(mean, std))(layers)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_pooled_term_without_weight_costs_nothing(backbone: nn.Module) -> None:
    whole = network(backbone, "lean, labels", "none", 1)
    assert isinstance(whole.head, LeanHead)
    for parameter in whole.head.pooled.parameters():
        parameter.data.zero_()
    compiled = compile_network(whole)
    assert not [m for m in compiled.modules() if isinstance(m, PooledTerm)]
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images())[0], whole(images())[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "folds"), [("resnet18", True), ("mobilenetv3_large_100", True), ("nfnet_l0", False)]
)
def test_pixels_are_scaled_by_the_first_convolution_where_it_is_a_plain_one(
    name: str, folds: bool
) -> None:
    extractor = Extractor(build_backbone(name, "none", 0), 1)
    settle(extractor)
    with torch.no_grad():
        size = HEIGHT, WIDTH
        compiled = PixelBackbone(extractor.backbone, extractor.mean, extractor.std, size)
        expected, found = extractor.layers(images()), compiled(images())
    assert (compiled.scale is None) is folds
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()), rtol=0)


def test_no_batch_norm_is_left_in_the_graph(backbone: nn.Module) -> None:
    extractor = Extractor(backbone, 1)
    head = LeanHead(extractor.channels, 8, 0.02, labels=True)
    graph = export_onnx(Network(extractor, head, HEIGHT, WIDTH))
    kinds = {node.op_type for node in onnx.load_model_from_string(graph).graph.node}
    assert "Conv" in kinds
    assert kinds.isdisjoint({"BatchNormalization", "Resize"})
