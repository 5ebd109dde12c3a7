"""The compiled fp32 graph to its int8 twin: static quantisation, scales from training images.

Convolutions alone are quantised, nearly all of the work: weights to 7 bits and a scale for each
output channel, symmetric about zero; activations to 8 bits without a sign. With 7 bits the sums of
two products fit the 16 bits in which processors without VNNI add them up: answers are the same
there. All else stays fp32, residual sums among it: in int8 they were no faster and cost more.
So do the convolution of the pixels, whose 256 levels do not survive another grid of 256, and those
that make or read the one-channel map, whose values are the answer.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_OPERATOR = "Conv"


class _Reader:
    """Calibration images one by one, as ONNX Runtime asks for them."""

    def __init__(self, images: Iterable[NDArray[np.uint8]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch of one by the input's name, or None after the last."""
        image = next(self._images, None)
        return None if image is None else {"image": image[np.newaxis]}


def quantise(graph: bytes, images: Iterable[NDArray[np.uint8]]) -> bytes:
    """Return the graph with quantised convolutions; ranges are the least and largest values seen.

    images: what the ranges are taken from, uint8 RGB [H, W, 3] of the graph's size each. Raises
    OSError where the folder for temporary files is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        shaped, quantised = Path(folder, "shaped.onnx"), Path(folder, "int8.onnx")
        # Shapes alone: it is optimised already, and symbolic inference is for transformers.
        quant_pre_process(
            onnx.load_model_from_string(graph),
            shaped,
            skip_optimization=True,
            skip_symbolic_shape=True,
        )
        quantize_static(
            shaped,
            quantised,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[_OPERATOR],
            nodes_to_exclude=_kept(onnx.load_model(shaped)),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return quantised.read_bytes()


def _kept(model: onnx.ModelProto) -> list[str]:
    """Name the convolutions that stay fp32: of the pixels, and to or from the map's one channel."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    pixels = {"image"}
    kept = []
    for node in model.graph.node:  # each after what it reads
        reads_pixels = not pixels.isdisjoint(node.input)
        if node.op_type != _OPERATOR:
            pixels.update(node.output if reads_pixels else ())
            continue
        out, channels = shapes[node.input[1]][:2]
        # A depthwise convolution has one input channel in each of its groups.
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        if reads_pixels or out == 1 or channels * groups == 1:
            kept.append(node.name)
    return kept
