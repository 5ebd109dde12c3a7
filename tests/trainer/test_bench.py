"""`bench` times all that is here, and its ratios are those of its rows. No test looks at speed."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from ssn_agent.bundles.archive import write_bundle
from ssn_agent.frames.pixels import to_network_input
from ssn_agent.inference.engines.available import available_engines
from ssn_contract.manifest import NetworkInput
from ssn_trainer.bench import run as module
from ssn_trainer.bench.graphs import backbone_graph, multiply_adds, published_graph
from ssn_trainer.bench.rows import Row, ratios
from ssn_trainer.pack.export import export_graph
from ssn_trainer.pack.int8 import quantise
from support.bundles import SIZE, brightness_model, files, manifest

from .conftest import Run

BACKBONE = "resnet10t"
INPUT = NetworkInput(height=SIZE, width=SIZE, mean=(0, 0, 0), std=(1, 1, 1))
REFERENCE = "onnxruntime-cpu/fp32"


def bundle(path: Path, *more: dict[str, Any], learned: str = "", **entries: bytes) -> Path:
    """Write a bundle that scores by brightness; `more`: precisions besides fp32."""
    sound = manifest(backbone=BACKBONE)
    listed = [{"name": "0", "digest": learned, "group": "0", "label": "good"}]
    parts = {"train": listed, "tune": [], "test": []}
    precisions = [*sound["precisions"], *({**sound["precisions"][0], **p} for p in more)]
    made = {**files(), **entries, "data.json": json.dumps({"parts": parts}).encode()}
    write_bundle(path, {**sound, "precisions": precisions}, made)
    return path


def parts(root: Path) -> Path:
    """Draw good parts that are dark and bad ones that are bright: no engine errs."""
    for label, levels in (("good", (20, 30, 40)), ("bad", (200, 210, 220))):
        (root / label).mkdir(parents=True)
        for level in levels:
            picture = np.full((48, 64, 3), level, np.uint8)
            assert cv2.imwrite(str(root / label / f"{level}.png"), picture)
    return root


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run a turn."""
    monkeypatch.setattr(module, "_TURN_S", 0.0)


@pytest.fixture
def drawn_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for what the bundle is held against, which take seconds to make."""
    for name in ("published_graph", "backbone_graph"):
        monkeypatch.setattr(module, name, lambda *_: brightness_model())


@pytest.mark.usefixtures("brief")
def test_every_engine_here_has_rows_beside_the_published_graph_and_the_backbone(
    run: Run, tmp_path: Path
) -> None:
    made = bundle(tmp_path / "a.ssn")
    data = parts(tmp_path / "parts")
    code, out, err = run("bench", made, "--data", data, "--rounds", 1, "--json")
    assert code == 0, err
    answer = json.loads(out.splitlines()[-1])
    assert answer["left_out"] == []
    assert (answer["judged"], answer["frame"]) == (6, [480, 640])
    here = {tuple(e.split("/")) for e in available_engines() if e.endswith("/fp32")}
    rows = answer["rows"]
    ours = [r for r in rows if r["model"] == "bundle"]
    assert {(r["engine"], r["precision"]) for r in ours} == here
    assert {(r["engine"], r["precision"]) for r in rows if r["model"] == "backbone"} == here
    assert {r["engine"] for r in rows if r["model"] == "published"} == {e for e, _ in here}
    for row in rows:
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["median_ms"])
        assert row["peak_memory_mb"] > 10
    assert {r["batch"] for r in ours} == {1, 4, 8}
    assert {(r["i_auroc_difference"], r["ap_det_difference"]) for r in ours} == {(0, 0)}
    assert all(r["score_difference"] < 1e-4 for r in ours)
    assert answer["multiply_adds_per_second"]["fp32"] > 0
    for key, value in ratios([Row(**row) for row in rows]).items():
        assert answer[key] == value
    assert answer["ort_cpu_vs_published_ort_fp32"] > 0
    assert (answer["best_vs_published_openvino"] is None) == (("openvino", "fp32") not in here)


@pytest.mark.usefixtures("brief", "drawn_graphs")
def test_an_engine_that_fails_is_left_out_and_named_and_the_others_are_timed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {REFERENCE: "1", "onnxruntime-cpu/int8": "1"}
    monkeypatch.setattr(module, "available_engines", lambda: engines)
    made = bundle(tmp_path / "a.ssn", {"name": "int8", "file": "int8"}, int8=b"no graph")
    code, out, err = run("bench", made, "--rounds", 1)
    assert code == 0, err
    assert "left out: bundle on onnxruntime-cpu/int8: the model does not load" in " ".join(
        err.split()
    )
    assert "best_vs_published_openvino: -" in out  # OpenVINO is not here
    assert "best_vs_backbone: -" not in out


@pytest.mark.usefixtures("brief", "drawn_graphs")
def test_where_the_reference_fails_the_run_ends_with_its_reason(run: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.ssn", manifest(backbone=BACKBONE), {**files(), "model.onnx": bad()})
    code, _, err = run("bench", tmp_path / "a.ssn", "--rounds", 1)
    assert code == 1
    assert "does not reproduce vectors/0.png" in err
    assert "Traceback" not in err


def bad() -> bytes:
    """Return the model that divides by 254 instead."""
    model = onnx.load_model_from_string(brightness_model())
    model.graph.initializer[0].float_data[0] = 200.0
    return bytes(model.SerializeToString())


def test_what_is_not_there_is_said_before_anything_is_timed(run: Run, tmp_path: Path) -> None:
    code, _, err = run("bench", tmp_path / "none.ssn")
    assert code == 1
    assert "none.ssn: cannot be read" in err
    made = bundle(tmp_path / "a.ssn")
    code, _, err = run("bench", made, "--data", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in err


def row(model: str, engine: str, precision: str, batch: int, median_ms: float) -> Row:
    known: Any = {"model": model, "engine": engine, "precision": precision}
    return Row(
        **known,
        batch=batch,
        median_ms=median_ms,
        p99_ms=median_ms,
        images_per_second=1.0,
        peak_memory_mb=1.0,
        score_difference=None,
        i_auroc_difference=None,
        ap_det_difference=None,
        multiply_adds=1,
        bound_ms=None,
    )


ROWS = [
    row("bundle", "onnxruntime-cpu", "fp32", 1, 20.0),
    row("bundle", "onnxruntime-cpu", "int8", 1, 10.0),
    row("bundle", "openvino", "bf16", 1, 6.0),
    row("bundle", "openvino", "bf16", 4, 1.0),
    row("bundle", "onnxruntime-cuda", "fp16", 1, 0.5),
    row("published", "onnxruntime-cpu", "fp32", 1, 100.0),
    row("published", "openvino", "bf16", 1, 30.0),
    row("backbone", "openvino", "fp32", 1, 8.0),
    row("backbone", "openvino", "bf16", 1, 5.0),
    row("backbone", "openvino", "bf16", 4, 0.1),
]


def test_ratios_are_those_of_one_frame_on_the_processor() -> None:
    assert ratios(ROWS) == {
        "best_vs_published_openvino": 6.0 / 30.0,
        "best_vs_backbone": 6.0 / 5.0,
        "ort_cpu_vs_published_ort_fp32": 10.0 / 100.0,
    }


def test_a_ratio_without_its_row_is_null() -> None:
    assert ratios([r for r in ROWS if r.engine != "openvino"]) == {
        "best_vs_published_openvino": None,
        "best_vs_backbone": None,
        "ort_cpu_vs_published_ort_fp32": 0.1,
    }


class _Small(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.linear = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 8, 10, 3] to [N, 5] and [N, 8, 10, 10]."""
        pixels = image.permute(0, 3, 1, 2).float()
        found = self.convolution(torch.cat([pixels, pixels[:, :1]], dim=1))
        return self.linear(found.mean(dim=(2, 3))), found[:, 0] @ found[:, 1].mT @ found[:, 0]


def test_multiply_adds_are_those_of_convolutions_and_products_of_one_image() -> None:
    graph = export_graph(_Small().eval(), 8, 10, ("score", "map"))
    convolution = 8 * 10 * 6 * (2 * 3 * 3)
    assert multiply_adds(graph) == convolution + 6 * 5 + 2 * (8 * 10 * 8)


def test_what_a_bundle_is_held_against_costs_what_it_should() -> None:
    published, alone = (make(BACKBONE, INPUT) for make in (published_graph, backbone_graph))
    channels, cells = 128 + 256, 8 * 8
    heads = cells * (channels * channels + channels * 1024 + 1024 + (channels + 1) * 128 * 25)
    extra = multiply_adds(published) - multiply_adds(alone)
    assert extra == pytest.approx(heads, rel=0.05)  # and the map's Gaussian
    picture = to_network_input(np.full((48, 64), 90, np.uint8), SIZE, SIZE)
    nodes = onnx.load_model_from_string(quantise(alone, [picture])).graph.node
    assert "DequantizeLinear" in {node.op_type for node in nodes}
