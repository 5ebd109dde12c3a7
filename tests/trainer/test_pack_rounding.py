"""Weights of int8 rounded so that their errors cancel: nearer answers from the very same levels."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ssn_trainer.pack.int8 import quantise
from ssn_trainer.pack.rounding import round_weights

SIZE = 24
Weights = dict[str, NDArray[np.generic]]


def images(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return smooth pictures: what a convolution sees of them rises and falls together."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (count, SIZE // 4, SIZE // 4, 3))
    return list(coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8))


@pytest.fixture(scope="module")
def graph() -> bytes:
    """A network of each kind of convolution there is: strided, dilated, in groups, without bias."""
    random = np.random.default_rng(5)
    shapes = {  # [out, in of the group, kernel, kernel]
        "pixels": (16, 3, 3, 3),
        "strided": (24, 16, 3, 3),
        "dilated": (24, 24, 3, 3),
        "grouped": (24, 1, 3, 3),
        "bare": (8, 24, 1, 1),
    }
    told: dict[str, dict[str, Any]] = {
        "strided": {"strides": [2, 2]},
        "dilated": {"dilations": [2, 2]},
        "grouped": {"group": 24},
    }
    pads = {name: (2 if name == "dilated" else shape[2] // 2) for name, shape in shapes.items()}
    tensors = []
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for number, (name, shape) in enumerate(shapes.items()):
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        weight = random.normal(0, spread, shape).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"{name}.weight"))
        inputs = [f"x{number}", f"{name}.weight"]
        if name != "bare":
            bias = random.normal(0, 1, shape[0]).astype(np.float32)
            tensors.append(numpy_helper.from_array(bias, f"{name}.bias"))
            inputs.append(f"{name}.bias")
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [f"y{number}"],
                name=name,
                kernel_shape=shape[2:],
                pads=[pads[name]] * 4,
                **told.get(name, {}),
            )
        )
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"]))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    answer = helper.make_tensor_value_info(f"y{len(shapes) - 1}", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "convolutions", [image], [answer], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def nearest(graph: bytes) -> bytes:
    return quantise(graph, images(16, 1))


@pytest.fixture(scope="module")
def rounded(graph: bytes, nearest: bytes) -> bytes:
    return round_weights(nearest, graph, images(16, 1))


def answers(graph: bytes, shown: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": np.stack(shown)})[0]
    return found


def constants(graph: bytes) -> Weights:
    tensors = onnx.load_model_from_string(graph).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def test_answers_on_other_images_come_nearer_to_those_of_fp32(
    graph: bytes, nearest: bytes, rounded: bytes
) -> None:
    others = images(16, 2)
    exact = answers(graph, others)
    before, after = (
        float(np.square(answers(twin, others) - exact).mean()) for twin in (nearest, rounded)
    )
    assert 0 < after < 0.8 * before  # the rest is what rounding the inputs costs


def test_ranges_stay_and_so_do_the_seven_bits_and_convolutions_in_groups(
    nearest: bytes, rounded: bytes
) -> None:
    before, after = constants(nearest), constants(rounded)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    layers = {name.partition(".")[0] for name in changed}
    assert layers == {"strided", "dilated", "bare"}
    for name in changed:
        assert after[name].dtype in {np.dtype(np.int8), np.dtype(np.int32)}
        if after[name].dtype == np.int8:
            assert np.abs(after[name].astype(int)).max() <= 64


def test_the_same_images_give_the_same_graph(graph: bytes, nearest: bytes, rounded: bytes) -> None:
    assert round_weights(nearest, graph, images(16, 1)) == rounded


def test_inputs_that_are_always_zero_spoil_nothing(graph: bytes) -> None:
    black = [np.zeros((SIZE, SIZE, 3), np.uint8)] * 2
    found = answers(round_weights(quantise(graph, black), graph, black), black)
    assert np.isfinite(found).all()
