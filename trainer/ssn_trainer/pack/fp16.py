"""The compiled fp32 graph to its fp16 twin, and that one to what it can be judged by without a GPU.

The twin is for NVIDIA's GPUs, on CUDA and through TensorRT: all between the uint8 pixels and the
fp32 answers is fp16. ONNX Runtime loads it on a processor, too, but computes in fp32 there and
leaves most of the rounding between two operators out: it would look better than it is.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnxruntime.transformers.float16 import convert_float_to_float16


def to_fp16(graph: bytes) -> bytes:
    """Return the graph in fp16; inputs and outputs keep their types."""
    model = onnx.load_model_from_string(graph)
    # Left to itself it keeps TopK in fp32, which CUDA and TensorRT have in fp16, too.
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=[])
    onnx.checker.check_model(half)
    data: bytes = half.SerializeToString()
    return data


def rounded(graph: bytes) -> bytes:
    """Return an fp16 graph in fp32, with each operator's result rounded to fp16.

    That is what a GPU computes: operators add up in fp32 inside, as cuDNN and cuBLAS do by default.
    """
    model = shape_inference.infer_shapes(onnx.load_model_from_string(graph), strict_mode=True)
    half = {
        item.name
        for item in model.graph.value_info
        if item.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        for index, name in enumerate(node.output):
            if name in half:
                exact, small = f"{name}_exact", f"{name}_rounded"
                node.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [small], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [small], [name], to=TensorProto.FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]  # of the types before
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
