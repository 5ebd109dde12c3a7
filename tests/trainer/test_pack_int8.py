"""The int8 twin: its own figures, nothing of fp32 touched, and never one that costs accuracy."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from ssn_agent.bundles.archive import Bundle
from ssn_agent.inference.engines.available import why_not
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Regime
from ssn_trainer.data.images import load_input
from ssn_trainer.measure.limits import Limits
from ssn_trainer.pack import bundle as packing
from ssn_trainer.pack.bundle import Packed, Title, pack
from ssn_trainer.pack.int8 import quantise
from ssn_trainer.pack.judge import judge

from .conftest import SIZE, Trained

OV = "openvino/int8"


@pytest.fixture(scope="module")
def twinned(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return trained.pack(trained.data, tmp_path_factory.mktemp("twinned"), twins=["int8"])


@pytest.mark.parametrize(
    "engine",
    [
        "onnxruntime-cpu/int8",
        pytest.param(OV, marks=pytest.mark.skipif(why_not(OV) is not None, reason="no OpenVINO")),
    ],
)
def test_a_file_of_its_own_keeps_to_the_vectors_within_a_tolerance_of_its_own(
    twinned: Packed, engine: EngineName
) -> None:
    bundle = Bundle.open(twinned.path)
    scorer = Scorer(bundle, engine=engine)
    assert 0 < scorer.check_vectors() <= scorer.precision.tolerance.score
    assert scorer.precision.file == "model.int8.onnx"
    assert len(bundle.read("model.int8.onnx")) < 0.3 * len(bundle.read("model.onnx"))
    assert scorer.precision.tolerance.score > bundle.manifest.precision("fp32").tolerance.score


def test_no_figure_of_fp32_changes(twinned: Packed, plain: Packed) -> None:
    with_twin, without = Bundle.open(twinned.path), Bundle.open(plain.path)
    assert [p.name for p in without.manifest.precisions] == ["fp32"]
    assert with_twin.manifest.precision("fp32") == without.manifest.precision("fp32")
    assert with_twin.read("model.onnx") == without.read("model.onnx")
    for what in ("threshold", "metrics", "vectors"):
        assert getattr(with_twin.manifest, what) == getattr(without.manifest, what)


def test_half_when_published_is_the_threshold_of_its_own_scores(
    twinned: Packed, trained: Trained
) -> None:
    scorer = Scorer(Bundle.open(twinned.path), engine="onnxruntime-cpu/int8")
    tune = judge(scorer.score_inputs, trained.data.split.tune, SIZE, SIZE, lambda _: None)
    _, score, anomaly_map = packing._decide(tune, Limits())
    assert scorer.precision.score == score
    assert scorer.precision.map == anomaly_map
    assert scorer.precision.score != scorer.bundle.manifest.precision("fp32").score


def test_one_that_ruins_accuracy_is_not_shipped_and_that_is_said(
    trained: Trained, plain: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(*arguments: Any) -> bytes:
        model = onnx.load_model_from_string(quantise(*arguments))
        for tensor in model.graph.initializer:
            if numpy_helper.to_array(tensor).dtype == np.int8:
                values = np.zeros_like(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        data: bytes = model.SerializeToString()
        return data

    graph = Bundle.open(plain.path).read("model.onnx")
    monkeypatch.setattr(packing, "export_onnx", lambda _: graph)
    monkeypatch.setattr(packing, "quantise", ruined)
    packed = trained.pack(trained.data, tmp_path, twins=["int8"])
    manifest = Bundle.open(packed.path).manifest
    assert manifest.precisions == Bundle.open(plain.path).manifest.precisions
    assert "model.int8.onnx" not in {entry.path for entry in manifest.entries}
    (remark,) = set(packed.remarks) - set(plain.remarks)
    assert remark.startswith("int8 is left out: on onnxruntime-cpu/int8 i_auroc of the tune part")


def test_convolutions_are_in_7_bits_but_those_of_the_pixels_and_of_the_map(twinned: Packed) -> None:
    graph = onnx.load_model_from_string(Bundle.open(twinned.path).read("model.int8.onnx")).graph
    made = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in values:
            kept.append(values[node.input[1]].shape)
        elif node.op_type == "Conv":
            weight = made[node.input[1]]
            levels, scales = values[weight.input[0]], values[weight.input[1]]
            assert levels.dtype == np.int8
            assert np.abs(levels.astype(int)).max() <= 64
            assert len(scales) == len(levels)  # one for each output channel
    assert [shape[:2] for shape in kept] == [(64, 3), (1, kept[-1][1])]


@pytest.mark.parametrize("regime", [Regime.WEAK, Regime.UNSUPERVISED])
def test_ranges_are_taken_from_a_few_of_the_images_that_it_was_trained_on(
    trained: Trained,
    plain: Packed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    regime: Regime,
) -> None:
    graph = Bundle.open(plain.path).read("model.onnx")
    monkeypatch.setattr(packing, "export_onnx", lambda _: graph)
    seen: list[bytes] = []

    class Enough(Exception):  # noqa: N818 -- no error: the rest of packing is not looked at
        pass

    def note(_: bytes, images: Iterable[NDArray[np.uint8]]) -> bytes:
        seen.extend(image.tobytes() for image in images)
        raise Enough

    monkeypatch.setattr(packing, "quantise", note)
    title = Title("plates", "1", regime, "resnet18")
    with pytest.raises(Enough):
        pack(trained.network, title, trained.data, tmp_path, twins=["int8"])
    assert 0 < len(seen) <= 32
    train = {load_input(s, SIZE, SIZE).tobytes(): s.label for s in trained.data.split.train}
    assert set(seen) <= set(train)
    assert {train[image] for image in seen} == (
        {"good", "bad"} if regime is Regime.WEAK else {"good"}
    )
