"""Every engine gives the reference's answer, or an error of ours: never another answer."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ssn_agent.errors import EngineError
from ssn_agent.inference.engines import available, cores
from ssn_agent.inference.engines.available import (
    REFERENCE,
    Options,
    available_engines,
    start_engine,
    why_not,
)
from ssn_agent.inference.engines.engine import Engine
from ssn_agent.inference.engines.ort import CPU, BoundEngine, OrtEngine, Provider
from support.bundles import SIZE, brightness_model
from support.children import environment

GPU = pytest.mark.gpu
EVERY = [
    "onnxruntime-cpu/fp32",
    "openvino/fp32",
    pytest.param("onnxruntime-cuda/fp32", marks=GPU),
    pytest.param("onnxruntime-tensorrt/fp16", marks=GPU),
]
every_engine = pytest.mark.parametrize("name", EVERY)
RNG = np.random.default_rng(0)


def started(name: str, model: bytes, cache: Path) -> Engine:
    problem = why_not(name)
    if problem is not None:
        pytest.skip(problem)
    return start_engine(name, model, SIZE, SIZE, Options(1, cache))


@pytest.mark.parametrize("name", ["onnxruntime-cpu/fp32", "openvino/fp32"])
def test_no_runtime_notes_anything_for_its_maker(name: str, tmp_path: Path) -> None:
    if why_not(name) is not None:
        pytest.skip(str(why_not(name)))
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from ssn_agent.inference.engines.available import Options, start_engine\n"
        "from support.bundles import SIZE, brightness_model\n"
        f"engine = start_engine({name!r}, brightness_model(), SIZE, SIZE, "
        "Options(1, Path(sys.argv[1])))\n"
        "engine.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    ours = {k: v for k, v in environment().items() if not k.startswith(("CI", "ORT_", "XDG_"))}
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    subprocess.run(command, check=True, env={**ours, "HOME": str(home)})
    assert list(home.rglob("*")) == []


def images(count: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def graph(
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, list[Any]]],
    value: float = 0.5,
    opset: int = 18,
) -> bytes:
    """Return a graph that answers with constants: what it takes is multiplied by 0."""
    nodes, tensors = [], [helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])]
    for name, *_ in inputs:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", [f"{name}_float"], [f"{name}_max"], keepdims=0),
            helper.make_node("Mul", [f"{name}_max", "nothing"], [f"{name}_none"]),
        ]
    nodes.append(helper.make_node("Sum", [f"{name}_none" for name, *_ in inputs], ["none"]))
    for name, shape in outputs:
        values = [value] * int(np.prod(shape))
        tensors.append(helper.make_tensor(f"{name}_value", TensorProto.FLOAT, shape, values))
        nodes.append(helper.make_node("Add", ["none", f"{name}_value"], [name]))
    made = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        tensors,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return bytes(model.SerializeToString())


IMAGE = ("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
SCORE = ("score", [1])
MAP = ("map", [1, SIZE, SIZE])


@every_engine
def test_an_engine_answers_as_the_reference_does_for_batches_of_any_size(
    tmp_path: Path, name: str
) -> None:
    engine = started(name, brightness_model(), tmp_path)
    assert engine.name == name
    for count in (1, 3, 1, 2):
        batch = images(count)
        scores, maps = engine.run(batch)
        np.testing.assert_allclose(maps, batch.max(axis=3) / 255, atol=1e-3)
        np.testing.assert_allclose(scores, maps.max(axis=(1, 2)), atol=1e-6)


@every_engine
def test_an_answer_is_not_written_over_by_the_next_one(tmp_path: Path, name: str) -> None:
    engine = started(name, brightness_model(), tmp_path)
    scores, maps = engine.run(np.full((1, SIZE, SIZE, 3), 255, np.uint8))
    engine.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    assert (scores.min(), maps.min()) == (1.0, 1.0)


@every_engine
def test_rows_that_are_cut_from_a_larger_image_are_scored_as_themselves(
    tmp_path: Path, name: str
) -> None:
    engine = started(name, brightness_model(), tmp_path)
    wide = RNG.integers(0, 256, (1, SIZE, 2 * SIZE, 3), np.uint8)
    _, maps = engine.run(wide[:, :, ::2])
    np.testing.assert_allclose(maps, wide[:, :, ::2].max(axis=3) / 255, atol=1e-3)


@every_engine
@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"no graph",
        b"\x08" * 9,
        brightness_model()[:-40],
        brightness_model().replace(b"ReduceMax", b"ReduceNil"),
        graph([IMAGE], [SCORE, MAP], opset=99),
    ],
    ids=["empty", "text", "noise", "truncated", "unknown operator", "opset of the future"],
)
def test_a_graph_that_does_not_load_is_an_engine_error(
    tmp_path: Path, name: str, model: bytes
) -> None:
    with pytest.raises(EngineError, match="does not load") as caught:
        started(name, model, tmp_path)
    assert "\n" not in str(caught.value)


@every_engine
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([("picture", TensorProto.UINT8, ["N", SIZE, SIZE, 3])], [SCORE, MAP]),
        ([("image", TensorProto.FLOAT, ["N", SIZE, SIZE, 3])], [SCORE, MAP]),
        ([("image", TensorProto.UINT8, ["N", 3, SIZE, SIZE])], [SCORE, MAP]),
        ([("image", TensorProto.UINT8, ["N", SIZE, 64, 3])], [SCORE, MAP]),
        ([("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])], [SCORE, MAP]),
        ([("image", TensorProto.UINT8, ["N", SIZE, "W", 3])], [SCORE, MAP]),
        ([IMAGE, ("more", TensorProto.FLOAT, [1])], [SCORE, MAP]),
        ([IMAGE], [MAP, SCORE]),
        ([IMAGE], [SCORE]),
        ([IMAGE], [("logit", [1]), MAP]),
    ],
)
def test_a_graph_with_other_inputs_or_outputs_is_refused(
    tmp_path: Path,
    name: str,
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, list[Any]]],
) -> None:
    with pytest.raises(EngineError, match="pack it anew"):
        started(name, graph(inputs, outputs), tmp_path)


@every_engine
@pytest.mark.parametrize(
    ("score", "map_"),
    [([1, 1], [1, SIZE, SIZE]), ([1], [1, 1, SIZE, SIZE]), ([1], [1, 8, 8]), ([2], MAP[1])],
)
def test_a_graph_that_answers_in_other_shapes_is_an_engine_error(
    tmp_path: Path, name: str, score: list[int], map_: list[int]
) -> None:
    engine = started(name, graph([IMAGE], [("score", score), ("map", map_)]), tmp_path)
    with pytest.raises(EngineError, match=r"shape|dimension|rank"):
        engine.run(images(1))


@every_engine
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_engine_error_and_no_verdict(
    tmp_path: Path, name: str, value: float
) -> None:
    engine = started(name, graph([IMAGE], [SCORE, MAP], value), tmp_path)
    with pytest.raises(EngineError, match="NaN or infinity"):
        engine.run(images(1))


@every_engine
@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 5, 5, 3), np.uint8),
        np.zeros((1, SIZE, SIZE), np.uint8),
        np.zeros((1, SIZE, SIZE, 4), np.uint8),
        np.zeros((1, SIZE, SIZE, 3), np.uint16),
        np.zeros((1, SIZE, SIZE, 3), np.float32),
    ],
)
def test_images_of_another_size_depth_or_channel_count_are_an_engine_error(
    tmp_path: Path, name: str, batch: NDArray[np.uint8]
) -> None:
    engine = started(name, brightness_model(), tmp_path)
    with pytest.raises(EngineError, match="batch of 1"):
        engine.run(batch)


class BoundOnCpu(BoundEngine):
    """The code of the GPU engines, on a device that every machine has."""

    device = "cpu"


def test_bound_inputs_and_outputs_give_the_same_answers_and_keep_none_of_them() -> None:
    engine = BoundOnCpu("bound/fp32", brightness_model(), SIZE, SIZE, 1, CPU)
    answers = []
    for count in (1, 3, 1, 3):
        batch = images(count)[..., ::-1]  # rows that do not lie one after the other
        answers.append((batch, *engine.run(batch)))
    for batch, scores, maps in answers:
        np.testing.assert_allclose(maps, batch.max(axis=3) / 255, atol=1e-6)
        np.testing.assert_allclose(scores, maps.max(axis=(1, 2)), atol=1e-6)


def test_a_graph_whose_answer_does_not_fit_its_binding_is_an_engine_error() -> None:
    model = graph([IMAGE], [("score", [1]), ("map", [1, 8, 8])])
    engine = BoundOnCpu("bound/fp32", model, SIZE, SIZE, 1, CPU)
    with pytest.raises(EngineError, match="batch of 1"):
        engine.run(images(1))


@pytest.mark.skipif(
    why_not("onnxruntime-cuda/fp32") is None, reason="CUDA would start here, and be right to"
)
@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own word on it
def test_a_provider_that_does_not_start_is_an_error_and_not_the_next_one_in_silence() -> None:
    cuda: Provider = ("CUDAExecutionProvider", {})
    with pytest.raises(EngineError, match="CUDAExecutionProvider does not start"):
        OrtEngine("onnxruntime-cuda/fp32", brightness_model(), SIZE, SIZE, 1, cuda, CPU)


def test_what_is_available_names_its_version_and_starts() -> None:
    found = available_engines()
    assert REFERENCE in found
    assert all(version[0].isdigit() for version in found.values())
    for name in found:
        if not name.startswith(("onnxruntime-cuda", "onnxruntime-tensorrt")):
            assert start_engine(name, brightness_model(), SIZE, SIZE, Options(1)).name == name


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("onnxruntime-cpu/fp32", r"pip install 'ssn-inspect\[agent,cpu\]'"),
        ("openvino/bf16", r"pip install 'ssn-inspect\[agent,openvino\]'"),
        ("onnxruntime-cuda/fp16", "onnxruntime is not installed"),
    ],
)
def test_a_runtime_that_is_not_installed_is_found_out_before_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setattr(available, "find_spec", lambda _: None)
    assert available_engines() == {}
    with pytest.raises(EngineError, match=advice):
        start_engine(name, brightness_model(), SIZE, SIZE)


@pytest.mark.parametrize(
    ("flags", "has"),
    [("avx2 avx512f", False), ("avx2 avx512_bf16", True), ("amx_bf16 amx_tile", True)],
)
def test_bf16_is_offered_on_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, *, has: bool
) -> None:
    monkeypatch.setattr(available, "find_spec", lambda name: name)
    monkeypatch.setattr(available, "processor", lambda: {"flags": flags})
    assert (why_not("openvino/bf16") is None) is has
    assert why_not("openvino/fp32") is None


def test_an_engine_of_another_name_is_refused_by_the_names_that_there_are() -> None:
    with pytest.raises(EngineError, match=r"no engine of ours.*onnxruntime-cpu/fp32"):
        start_engine("tflite/fp32", brightness_model(), SIZE, SIZE)


@pytest.mark.parametrize(
    ("allowed", "expected"), [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({1}, 1), ({0, 1, 9}, 3)]
)
def test_threads_are_counted_by_the_physical_cores_that_the_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], expected: int
) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(cores, "_CPUS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: allowed)
    assert cores.physical_cores() == expected
