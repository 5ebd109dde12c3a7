"""A bundle that anyone can compute by hand: map = brightness, score = its maximum."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from onnx import TensorProto, helper

from ssn_agent.bundles.archive import write_bundle
from ssn_agent.bundles.reference import Reference
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.inference.fitness import describe_pictures, measure

SIZE = 32
THRESHOLD = 0.5


def brightness_model(size: int = SIZE, steps: int = 0) -> bytes:
    """Return a graph with map = max over channels / 255 and score = max over the map.

    `steps` is work that changes nothing, to give the graph a cost: so many products of matrices,
    times zero.
    """
    averages = [f"average{step}" for step in range(steps + 1)]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "full"], ["unit"]),
        helper.make_node("ReduceMax", ["unit", "channels"], ["average0"], keepdims=0),
        *(
            helper.make_node("MatMul", [before, "mean"], [after])
            for before, after in pairwise(averages)
        ),
        helper.make_node("Mul", [averages[-1], "zero"], ["nothing"]),
        helper.make_node("Add", ["average0", "nothing"], ["map"]),
        helper.make_node("ReduceMax", ["map", "pixels"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", size, size]),
        ],
        [
            helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("mean", TensorProto.FLOAT, [size, size], [1 / size] * size**2),
            helper.make_tensor("channels", TensorProto.INT64, [1], [3]),
            helper.make_tensor("pixels", TensorProto.INT64, [2], [1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def manifest(**changes: Any) -> dict[str, Any]:
    """Return a sound manifest, but for its entries."""
    calibration = {"threshold": THRESHOLD, "slope": 10.0}
    sound: dict[str, Any] = {
        "name": "brightness",
        "version": "1.0.0",
        "created_at": "2026-01-01T00:00:00Z",
        "trainer": "tests",
        "regime": "weak",
        "head": "gap-cam",
        "variant": None,
        "backbone": "none",
        "input": {"height": SIZE, "width": SIZE, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "threshold": {"method": "by hand", "good_images": 1, "bad_images": 1},
        "precisions": [
            {
                "name": "fp32",
                "file": "model.onnx",
                "score": calibration,
                "map": calibration,
                "tolerance": {"score": 1e-4, "map": 1e-3},
            }
        ],
        "metrics": {},
        "vectors": [{"image": "vectors/0.png", "score": 100 / 255, "map": "vectors/0.f32"}],
    }
    return {**sound, **changes}


def files(steps: int = 0) -> dict[str, bytes]:
    """Return the entries that the manifest names, of a model with so much idle work."""
    image = np.full((SIZE, SIZE), 100, np.uint8)
    done, png = cv2.imencode(".png", image)
    assert done
    expected = np.full((SIZE, SIZE), 100 / 255, "<f4")
    return {
        "model.onnx": brightness_model(steps=steps),
        "vectors/0.png": png.tobytes(),
        "vectors/0.f32": expected.tobytes(),
    }


def reference(good: Sequence[Pixels], side: int = SIZE) -> Reference:
    """Return what a bundle of that size says of good images, each of a part of its own."""
    measured = [measure(to_network_input(g, side, side), *g.shape[:2]) for g in good]
    return Reference(pictures=describe_pictures(measured, [str(i) for i in range(len(good))]))


def write_brightness_bundle(
    path: Path,
    *,
    steps: int = 0,
    good: Sequence[Pixels] = (),
    entries: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> Path:
    """Write the bundle, of a model with so much idle work, and return its path.

    With `good` images it says how these look; with `entries` it holds these besides.
    """
    entries = {**files(steps), **(entries or {})}
    if good:
        entries["reference.json"] = reference(good).model_dump_json().encode()
    write_bundle(path, manifest(**changes), entries)
    return path
