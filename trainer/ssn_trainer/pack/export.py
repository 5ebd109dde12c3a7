"""The network to an ONNX graph: uint8 pixels in, raw scores and raw maps out."""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ssn_trainer.model.network import Network
from ssn_trainer.pack.compile.network import compile_network

OPSET = 18
_SMALL = 256
"""Tensors of fewer values stay float32 in a half-size graph: there is nothing to save."""


def export_onnx(network: Network) -> bytes:
    """Return the graph: `image` uint8 [N, H, W, 3] to `score` [N] and `map` [N, H, W], N free.

    It is the compiled network (`pack.compile`), which computes the same with less work.
    """
    compiled = compile_network(network.cpu().eval())
    return export_graph(compiled, network.height, network.width, ("score", "map"))


def export_graph(module: nn.Module, height: int, width: int, outputs: Sequence[str]) -> bytes:
    """Return a module as it is: `image` uint8 [N, height, width, 3] to `outputs`, N free."""
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=list(outputs),
        dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
        external_data=False,
        verbose=False,
    )
    if program is None:  # the signature of the older exporter
        msg = "torch.onnx.export gave no program"
        raise AssertionError(msg)
    model = program.model_proto
    for node in model.graph.node:  # traces with paths of this computer
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def halve_weights(graph: bytes) -> bytes:
    """Return the graph with its large float32 tensors rounded to float16, cast back when it runs.

    Half the size, other results: choose thresholds and vectors on the graph that comes out.
    """
    model = onnx.load_model_from_string(graph)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _SMALL:
            half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")
            kept.append(half)
            casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
