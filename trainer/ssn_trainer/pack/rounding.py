"""Weights of a quantised graph rounded anew, so that their errors cancel instead of adding up.

Rounding each weight to its nearest level is best where inputs are independent. Those of a
convolution are not: neighbouring pixels and channels rise together. So weights are rounded one
after the other, and each one's error is made up for by those that come after it, as far as the
layer's inputs, seen on training images, allow (GPTQ: Frantar et al., ICLR 2023, arXiv 2210.17323,
equations 2 and 3). The bias comes last and is hardly rounded: it takes up what shifts the mean.

For a layer with weights w and inputs x, both [K], the error to keep small is (w - q) H (w - q) with
H = E[x x^T]. With U upper triangular and U^T U = H^-1, the best answer to an error e = w_i - q_i is
to subtract e / U_ii * U_ij from each w_j that follows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

_POSITIONS = 512
"""Of each image and convolution, drawn: 16 000 of 32 images, for at most 2305 unknowns."""
_DAMPING = 0.01
"""Share of the inputs' mean square that is added to each: no answer hangs on inputs never seen."""
_BLOCK = 64
"""Weights after which the rest of a row is brought up to date, by one product of matrices."""


@dataclass(frozen=True)
class _Layer:
    """A convolution in both graphs, without groups."""

    node: onnx.NodeProto
    """In the fp32 graph."""
    levels: str
    """The quantised graph's weights [O, I, kh, kw], int8."""
    scales: str
    """Of each output channel, [O]."""
    bias: str | None
    """The quantised graph's bias [O], int32."""
    bias_scales: str | None

    def patches(self, values: NDArray[np.float32], draw: torch.Generator) -> Tensor:
        """Inputs of one image [1, I, h, w] to what the kernel sees at some positions, [n, K]."""
        told = {item.name: onnx.helper.get_attribute_value(item) for item in self.node.attribute}
        top, left, bottom, right = told.get("pads", (0, 0, 0, 0))
        (step_y, step_x), (gap_y, gap_x) = (
            told.get("strides", (1, 1)),
            told.get("dilations", (1, 1)),
        )
        rows, columns = told["kernel_shape"]
        padded = F.pad(torch.from_numpy(values)[0], (left, right, top, bottom))
        span_y, span_x = (rows - 1) * gap_y + 1, (columns - 1) * gap_x + 1
        # [I, h, w] -> [I, h', w', kh, kw], a view
        seen = padded.unfold(1, span_y, step_y).unfold(2, span_x, step_x)[..., ::gap_y, ::gap_x]
        height, width = seen.shape[1:3]
        chosen = torch.randperm(height * width, generator=draw)[:_POSITIONS]
        # [I, n, kh, kw] -> [n, I * kh * kw]
        picked = seen[:, chosen // width, chosen % width].transpose(0, 1)
        return picked.reshape(len(chosen), -1)


def round_weights(quantised: bytes, graph: bytes, images: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return the quantised graph with other weights and biases, of the same scales and ranges.

    quantised: made from `graph` by `int8.quantise`; images: uint8 RGB [H, W, 3] of the graph's
    size. Convolutions in groups stay as they are.
    """
    model = onnx.load_model_from_string(quantised)
    original = onnx.load_model_from_string(graph)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    layers = list(_layers(model, original))
    for layer, moments in zip(layers, _moments(original, layers, images), strict=True):
        exact = _exact(layer, weights)
        levels = numpy_helper.to_array(values[layer.levels])
        scales = torch.from_numpy(numpy_helper.to_array(values[layer.scales]).astype(np.float64))
        limit = int(np.abs(levels.astype(int)).max())
        columns = levels[0].size
        rounded, made_up = _round_rows(exact, moments, scales, columns, limit)
        found = rounded.reshape(levels.shape).numpy().astype(levels.dtype)
        values[layer.levels].CopyFrom(numpy_helper.from_array(found, layer.levels))
        if layer.bias is not None and layer.bias_scales is not None:
            by = numpy_helper.to_array(values[layer.bias_scales]).astype(np.float64)
            steps = np.rint(made_up[:, -1].numpy() / by).astype(np.int32)
            values[layer.bias].CopyFrom(numpy_helper.from_array(steps, layer.bias))
    data: bytes = model.SerializeToString()
    return data


def _layers(model: onnx.ModelProto, original: onnx.ModelProto) -> Iterator[_Layer]:
    """The quantised convolutions; those kept in fp32 have no levels."""
    made = {output: node for node in model.graph.node for output in node.output}
    nodes = {node.name: node for node in original.graph.node}
    for node in model.graph.node:
        weight = made.get(node.input[1]) if node.op_type == "Conv" else None
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        if weight is None or weight.op_type != "DequantizeLinear" or groups != 1:
            continue
        bias = made.get(node.input[2]) if len(node.input) > 2 else None
        yield _Layer(
            nodes[node.name],
            *weight.input[:2],
            *(bias.input[:2] if bias is not None else (None, None)),
        )


def _exact(layer: _Layer, weights: Mapping[str, onnx.TensorProto]) -> Tensor:
    """Weights and bias of the fp32 graph, [O, K + 1]; without a bias [O, K]."""
    weight = numpy_helper.to_array(weights[layer.node.input[1]])
    rows = [weight.reshape(len(weight), -1)]  # [O, I, kh, kw] -> [O, K]
    if layer.bias is not None:
        rows.append(numpy_helper.to_array(weights[layer.node.input[2]])[:, np.newaxis])
    return torch.from_numpy(np.concatenate(rows, axis=1).astype(np.float64))


def _moments(
    original: onnx.ModelProto, layers: Sequence[_Layer], images: Sequence[NDArray[np.uint8]]
) -> list[Tensor]:
    """H of each layer, over the images: [K, K], with a row and a column of the bias's input, 1."""
    wanted = sorted({layer.node.input[0] for layer in layers})
    shown = onnx.ModelProto()
    shown.CopyFrom(original)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    draw = torch.Generator().manual_seed(0)
    sums: list[Tensor] = []
    counts = [0] * len(layers)
    for image in images:
        answers = dict(zip(wanted, session.run(wanted, {"image": image[np.newaxis]}), strict=True))
        for number, layer in enumerate(layers):
            seen = layer.patches(answers[layer.node.input[0]], draw)
            if layer.bias is not None:
                seen = F.pad(seen, (0, 1), value=1.0)
            if len(sums) == number:
                sums.append(torch.zeros(seen.shape[1], seen.shape[1], dtype=torch.float64))
            sums[number] += seen.T @ seen
            counts[number] += len(seen)
    return [found / count for found, count in zip(sums, counts, strict=True)]


def _round_rows(
    exact: Tensor, moments: Tensor, scales: Tensor, columns: int, limit: int
) -> tuple[Tensor, Tensor]:
    """Round weights [O, K] to whole levels from -limit to limit; what follows them takes the rest.

    exact: [O, K + 1], the last column the bias, or [O, K]; columns: K. Returns levels [O, K] and
    `exact` with what each weight's error is made up by: its last column is the new bias.
    """
    left = exact.clone()
    damped = moments.clone()
    squares = damped.diagonal()[:columns]
    squares += _DAMPING * squares.mean().clamp_min(_DAMPING)
    # Cholesky from the last row up: damped = R R^T with R upper triangular, so that U = R^-1.
    root = torch.linalg.cholesky(damped.flip(0, 1)).flip(0, 1)
    upper = torch.linalg.solve_triangular(root, torch.eye(len(root)).to(root), upper=True)
    levels = exact.new_zeros(len(exact), columns)
    for begin in range(0, columns, _BLOCK):
        end = min(begin + _BLOCK, columns)
        errors = exact.new_zeros(len(exact), end - begin)
        for column in range(begin, end):
            value = left[:, column]
            levels[:, column] = (value / scales).round().clamp(-limit, limit)
            error = (value - levels[:, column] * scales) / upper[column, column]
            errors[:, column - begin] = error
            left[:, column:end] -= error.outer(upper[column, column:end])
        left[:, end:] -= errors @ upper[begin:end, end:]
    return levels, left
