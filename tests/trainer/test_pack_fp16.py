"""The fp16 twin is for GPUs, and what it costs is measured without one."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.pixels import decode_image, to_network_input
from ssn_agent.inference.engines.available import why_not
from ssn_agent.inference.engines.ort import OrtCpuEngine
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Calibration
from ssn_trainer.data.samples import load
from ssn_trainer.pack.bundle import Packed
from ssn_trainer.pack.fp16 import rounded, to_fp16
from ssn_trainer.pack.judge import judge
from ssn_trainer.pack.twin import measure_twin

from .conftest import SIZE, Trained


def sums(first: float, then: float = 0.0) -> bytes:
    """Return a graph whose map is the red channel times `first`, plus and minus `then`."""
    steps = [("Mul", "red", "first"), ("Add", "Mul", "then"), ("Sub", "Add", "then")]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float", "channels"], ["red"], keepdims=0),
        *(helper.make_node(step, [given, other], [step]) for step, given, other in steps),
        helper.make_node("Relu", ["Sub"], ["map"]),
        helper.make_node("ReduceMax", ["map", "pixels"], ["score"], keepdims=0),
    ]
    shape: list[str | int | None] = ["N", SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, shape[:1]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor("first", TensorProto.FLOAT, [], [first]),
            helper.make_tensor("then", TensorProto.FLOAT, [], [then]),
            helper.make_tensor("channels", TensorProto.INT64, [1], [3]),
            helper.make_tensor("pixels", TensorProto.INT64, [2], [1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def score(graph: bytes, level: int) -> float:
    image = np.full((1, SIZE, SIZE, 3), level, np.uint8)
    return float(OrtCpuEngine(graph, SIZE, SIZE).run(image)[0][0])


@pytest.fixture(scope="module")
def twinned(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return trained.pack(trained.data, tmp_path_factory.mktemp("twinned"), twins=["fp16"])


def test_all_between_the_pixels_and_the_answers_is_fp16_in_half_the_size(twinned: Packed) -> None:
    bundle = Bundle.open(twinned.path)
    half = bundle.read("model.fp16.onnx")
    graph = onnx.load_model_from_string(half).graph
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {item.type.tensor_type.elem_type for item in graph.value_info}
    assert TensorProto.FLOAT16 in types
    assert TensorProto.FLOAT not in types
    ends = [item.type.tensor_type.elem_type for item in (*graph.input, *graph.output)]
    assert ends == [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.FLOAT]
    assert len(half) < 0.55 * len(bundle.read("model.onnx"))


def test_it_has_figures_of_its_own_and_none_of_fp32_changes(twinned: Packed, plain: Packed) -> None:
    manifest, before = Bundle.open(twinned.path).manifest, Bundle.open(plain.path).manifest
    assert manifest.precision("fp32") == before.precision("fp32")
    fp32, fp16 = manifest.precision("fp32"), manifest.precision("fp16")
    assert fp16.file == "model.fp16.onnx"
    assert fp16.score.threshold != fp32.score.threshold
    assert fp16.score.threshold == pytest.approx(fp32.score.threshold, abs=fp16.tolerance.score)
    assert fp16.tolerance.score > fp32.tolerance.score
    assert set(twinned.remarks) == set(plain.remarks)


@pytest.mark.parametrize("graph", [bytes, rounded], ids=["the file", "rounded as on a GPU"])
def test_a_processor_answers_as_the_vectors_within_its_tolerance(
    twinned: Packed, graph: type[bytes]
) -> None:
    bundle = Bundle.open(twinned.path)
    allowed = bundle.manifest.precision("fp16").tolerance
    engine = OrtCpuEngine(graph(bundle.read("model.fp16.onnx")), SIZE, SIZE)
    for vector in bundle.manifest.vectors:
        image = to_network_input(decode_image(bundle.read(vector.image), ""), SIZE, SIZE)
        scores, maps = engine.run(image[np.newaxis])
        expected = np.frombuffer(bundle.read(vector.map), "<f4").reshape(SIZE, SIZE)
        assert abs(scores[0] - vector.score) <= allowed.score
        assert np.abs(maps[0] - expected).max() <= allowed.map


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["onnxruntime-cuda/fp16", "onnxruntime-tensorrt/fp16"])
def test_a_gpu_answers_as_the_vectors_within_its_tolerance(
    twinned: Packed, engine: EngineName, tmp_path: Path
) -> None:
    problem = why_not(engine)
    if problem is not None:
        pytest.skip(problem)
    Scorer(Bundle.open(twinned.path), engine=engine, cache=tmp_path).check_vectors()


def test_every_result_is_rounded_to_fp16() -> None:
    graph = to_fp16(sums(1.0, 2048.0))  # from 2048 on fp16 has every second number
    assert [score(rounded(graph), level) for level in (100, 101, 103)] == [100, 100, 104]


def test_a_network_whose_values_fp16_does_not_hold_goes_without_and_that_is_said(
    tmp_path: Path,
) -> None:
    for label, level in (("good", 20), ("bad", 200)):
        (tmp_path / label).mkdir()
        picture = np.full((SIZE, SIZE, 3), level, np.uint8)
        assert cv2.imwrite(str(tmp_path / label / "0.png"), picture)
    graph = sums(1000.0)  # 200 000 > 65 504

    def run(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return OrtCpuEngine(graph, SIZE, SIZE).run(inputs)

    fp32 = judge(run, load(tmp_path).samples, SIZE, SIZE, lambda _: None)
    one = Calibration(threshold=1.0, slope=1.0)
    found = measure_twin(
        "fp16",
        to_fp16(graph),
        "model.fp16.onnx",
        run,
        fp32,
        lambda _: (one, one),
        (SIZE, SIZE),
        lambda _: None,
    )
    assert found.precision is None
    assert "NaN or infinity" in str(found.refused)
