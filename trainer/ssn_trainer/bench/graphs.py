"""What a bundle's time is held against, as graphs: the published network, and the backbone alone.

Their weights are random: time does not depend on them.
"""

import math

import onnx
import torch
from onnx import shape_inference
from torch import Tensor, nn

from ssn_contract.manifest import NetworkInput
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import SuperSimpleNetHead
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack.compile.pixels import PixelBackbone
from ssn_trainer.pack.export import export_graph

_UPSCALE, _HIDDEN, _CLS_CHANNELS = 2, 1024, 128
"""As published (SuperSimpleNet, section 4)."""


class _BackboneAlone(nn.Module):
    """uint8 pixels to the mean of each channel of both layers: nothing of them can be left out."""

    def __init__(self, extractor: Extractor, size: NetworkInput) -> None:
        super().__init__()
        self.backbone = PixelBackbone(
            extractor.backbone, extractor.mean, extractor.std, (size.height, size.width)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [N, H, W, 3] to [N, C2] and [N, C3]."""
        layer2, layer3 = self.backbone(image)
        return layer2.mean(dim=(2, 3)), layer3.mean(dim=(2, 3))


def published_graph(backbone: str, size: NetworkInput) -> bytes:
    """Return the published network for a bundle's image size, as it is trained: not compiled.

    Raises WeightsError where the backbone is not to be had or does not take that size.
    """
    extractor = Extractor(build_backbone(backbone, "none", 0), _UPSCALE)
    extractor.layer_shapes(size.height, size.width)
    head = SuperSimpleNetHead(extractor.channels, _HIDDEN, _CLS_CHANNELS, "jims")
    network = Network(extractor, head, size.height, size.width).eval()
    return export_graph(network, size.height, size.width, ("score", "map"))


def backbone_graph(backbone: str, size: NetworkInput) -> bytes:
    """Return the backbone alone, up to stride 16, as a packed graph has it.

    Raises WeightsError, as `published_graph` does.
    """
    extractor = Extractor(build_backbone(backbone, "none", 0), 1)
    extractor.layer_shapes(size.height, size.width)
    with torch.no_grad():
        alone = _BackboneAlone(extractor, size).eval().requires_grad_(requires_grad=False)
    return export_graph(alone, size.height, size.width, ("layer2", "layer3"))


def multiply_adds(graph: bytes) -> int:
    """Return the multiply-adds of a graph's convolutions and matrix products, for one image."""
    model = onnx.load_model_from_string(graph)
    del model.graph.value_info[:]
    for item in (*model.graph.input, *model.graph.output):
        for dim in item.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for item in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = item.type.tensor_type.shape.dim
        shapes[item.name] = tuple(dim.dim_value for dim in dims)
    return sum(_of_node(node, shapes) for node in inferred.node)


def _of_node(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """The output's values times what is summed for each."""
    if node.op_type == "Conv":  # weight [C out, C in of the group, kh, kw]
        summed = math.prod(shapes[node.input[1]][1:])
    elif node.op_type in {"MatMul", "Gemm"}:
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        summed = shapes[node.input[0]][0 if transposed else -1]
    else:
        return 0
    return summed * math.prod(shapes[node.output[0]])
