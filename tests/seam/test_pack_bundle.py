"""What the trainer packs is what the agent serves: same graph, same scores, or no bundle."""

import dataclasses
import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.pixels import read_image
from ssn_agent.inference.engines.available import why_not
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_contract.manifest import Regime
from ssn_trainer.data.samples import load
from ssn_trainer.data.split import split
from ssn_trainer.errors import PackError
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import AnyHead, GapCamHead, LeanHead, SuperSimpleNetHead
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack import bundle as packing
from ssn_trainer.pack.bundle import Labelled, Packed, Title, pack, used_digests
from support.exports import remembered_exports as remembered_exports

HEIGHT, WIDTH = 48, 64
BF16_ENGINE: EngineName = "openvino/bf16"
TITLE = Title("drawn", "1", Regime.WEAK, "resnet18")
pack_alone = partial(pack, twins=())
"""Without twins: what most tests here look at has none."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """Noise images, gray and coloured, of other sizes than the network's."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for kind in ("good", "bad"):
        (root / kind).mkdir()
        for index in range(8):
            shape = (60, 200) if index % 2 else (180, 70, 3)
            image = rng.integers(0, 256, shape, np.uint8)
            assert cv2.imwrite(str(root / kind / f"{index}.png"), image)
    dataset = load(root, ".*")
    return Labelled(dataset, split(dataset, 0), 0)


def network(head: str = "supersimplenet", *, upscale: int = 1) -> Network:
    """A random network whose batch norms are not the identity."""
    extractor = Extractor(build_backbone("resnet18", "none", 0), upscale)
    torch.manual_seed(1)
    if head == "gap-cam":
        made: AnyHead = GapCamHead(extractor.channels, 8)
    elif head == "lean":
        made = LeanHead(extractor.channels, 8, 0.02, labels=True)
        assert isinstance(made.pooled, torch.nn.Linear)
        torch.nn.init.normal_(made.pooled.weight, std=0.1)
    else:
        made = SuperSimpleNetHead(extractor.channels, 16, 8, "jims")
    whole = Network(extractor, made, HEIGHT, WIDTH)
    for module in whole.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    whole.set_statistics(torch.rand(extractor.channels), torch.rand(extractor.channels) + 0.5)
    return whole.eval()


@pytest.fixture(scope="module")
def packed(data: Labelled, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_alone(network(), TITLE, data, tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize(("head", "upscale"), [("supersimplenet", 2), ("lean", 1), ("gap-cam", 1)])
def test_the_agent_computes_what_the_trainer_computed(
    data: Labelled, tmp_path: Path, head: str, upscale: int
) -> None:
    whole = network(head, upscale=upscale)
    scorer = Scorer(Bundle.open(pack_alone(whole, TITLE, data, tmp_path).path))
    manifest = scorer.bundle.manifest
    assert manifest.head.value == head
    assert manifest.variant == ("jims" if head == "supersimplenet" else None)
    inputs = np.random.default_rng(1).integers(0, 256, (5, HEIGHT, WIDTH, 3), np.uint8)
    scores, maps = scorer.score_inputs(inputs)
    with torch.inference_mode():
        expected_scores, expected_maps = whole(torch.from_numpy(inputs))
    np.testing.assert_allclose(scores, expected_scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(maps, expected_maps.numpy(), atol=1e-3)


@pytest.mark.skipif(why_not(BF16_ENGINE) is not None, reason=str(why_not(BF16_ENGINE)))
def test_bf16_of_the_same_file_keeps_to_the_vectors_within_a_tolerance_of_its_own(
    data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_trainer.pack.twin.MOST_LOST", 1.0)  # a random network judges at random
    bundle = Bundle.open(pack(network("lean"), TITLE, data, tmp_path, twins=["bf16"]).path)
    scorer = Scorer(bundle, engine=BF16_ENGINE)
    assert 0 < scorer.check_vectors() <= scorer.precision.tolerance.score
    fp32 = bundle.manifest.precision("fp32")
    assert scorer.precision.file == fp32.file
    assert scorer.precision.tolerance.score > fp32.tolerance.score
    assert scorer.precision.score != fp32.score


def test_a_batch_gives_what_its_images_give_one_by_one(packed: Packed) -> None:
    scorer = Scorer(Bundle.open(packed.path))
    inputs = np.random.default_rng(2).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    scores, maps = scorer.score_inputs(inputs)
    for index in range(3):
        score, anomaly_map = scorer.score_inputs(inputs[index : index + 1])
        np.testing.assert_allclose(score[0], scores[index], atol=1e-4)
        np.testing.assert_allclose(anomaly_map[0], maps[index], atol=1e-4)


def test_vectors_are_raw_tune_images_of_both_labels(packed: Packed, data: Labelled) -> None:
    bundle = Bundle.open(packed.path)
    assert len(bundle.manifest.vectors) == 4
    tune: dict[str, list[bytes]] = {s.label: [] for s in data.split.tune}
    for sample in data.split.tune:
        tune[sample.label].append(read_image(sample.path).tobytes())
    found = []
    for vector in bundle.manifest.vectors:
        pixels = cv2.imdecode(np.frombuffer(bundle.read(vector.image), np.uint8), -1)
        assert pixels is not None
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        found += [label for label, images in tune.items() if pixels.tobytes() in images]
    assert set(found) == {"good", "bad"}


def test_the_threshold_of_the_manifest_is_half_when_published(packed: Packed) -> None:
    scorer = Scorer(Bundle.open(packed.path))
    assert scorer.precision.score.threshold == packed.threshold


def test_the_manifest_holds_the_figures_with_their_intervals(packed: Packed) -> None:
    listed = Bundle.open(packed.path).manifest.metrics
    assert {name for name, value in packed.metrics.items() if value is not None} == set(listed)
    for name, metric in listed.items():
        interval = (None, None) if packed.intervals[name] is None else packed.intervals[name]
        assert (metric.value, (metric.low, metric.high)) == (packed.metrics[name], interval)


def test_the_report_is_an_entry_that_the_agent_does_not_need(packed: Packed) -> None:
    bundle = Bundle.open(packed.path)
    listed = {entry.path: entry for entry in bundle.manifest.entries}["report.html"]
    report = bundle.read("report.html")
    assert (listed.size, listed.sha256) == (len(report), hashlib.sha256(report).hexdigest())
    text = report.decode()
    assert "drawn 1" in text
    assert f"{packed.metrics['i_auroc']:.4f}" in text
    for figure in ("curve", "histograms", "Misses", "False alarms", "Hits"):
        assert figure in text


def test_half_size_weights_still_prove_themselves(
    packed: Packed, data: Labelled, tmp_path: Path
) -> None:
    half = pack_alone(network(), TITLE, data, tmp_path, half_weights=True)
    Scorer(Bundle.open(half.path)).check_vectors()
    sizes = [len(Bundle.open(p.path).read("model.onnx")) for p in (half, packed)]
    assert sizes[0] < 0.55 * sizes[1]
    reports = [Bundle.open(p.path).read("report.html") for p in (half, packed)]
    sides = [max(map(int, re.findall(r'(?:width|height)="(\d+)"', r.decode()))) for r in reports]
    assert sides[0] <= 160 < sides[1] <= 200


def test_the_bundle_knows_what_it_was_trained_and_tuned_on(packed: Packed, data: Labelled) -> None:
    expected = {s.digest for part in (data.split.train, data.split.tune) for s in part}
    assert used_digests(Bundle.open(packed.path)) == expected
    assert not expected & {s.digest for s in data.split.test}


def test_the_reference_describes_the_good_training_images(packed: Packed, data: Labelled) -> None:
    bundle = Bundle.open(packed.path)
    pictures = bundle.reference.pictures
    assert pictures is not None
    assert pictures.images == sum(s.label == "good" for s in data.split.train)
    assert bundle.reference.scores is not None
    assert bundle.reference.scores.images == sum(s.label == "good" for s in data.split.tune)
    quantiles = list(json.loads(bundle.read("reference.json"))["score"]["quantiles"].values())
    assert quantiles == sorted(quantiles)


def test_a_graph_that_differs_from_its_network_is_not_packed(
    packed: Packed, data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Bundle.open(packed.path).read("model.onnx")
    monkeypatch.setattr(packing, "export_onnx", lambda _: graph)
    other = network()
    assert isinstance(other.head, SuperSimpleNetHead)
    with torch.no_grad():
        other.head.decision.bias.add_(0.01)
    with pytest.raises(PackError, match="exported graph's score differs"):
        pack_alone(other, TITLE, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_does_not_reproduce_its_vectors_never_appears(
    data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Any = packing._add_vectors

    def lying(*arguments: Any) -> tuple[list[dict[str, Any]], dict[str, float]]:
        entries, tolerance = honest(*arguments)
        entries[0]["score"] = entries[0]["score"] + 1
        return entries, tolerance

    monkeypatch.setattr(packing, "_add_vectors", lying)
    with pytest.raises(PackError, match="does not reproduce"):
        pack_alone(network(), TITLE, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_metrics_are_left_to_eval_where_the_layout_marks_the_test_part(
    data: Labelled, tmp_path: Path
) -> None:
    # `load` does not open a marked test part.
    marked = Labelled(data.dataset, dataclasses.replace(data.split, test=()), 0)
    packed = pack_alone(network(), TITLE, marked, tmp_path)
    assert set(packed.metrics.values()) == {None}
    assert Bundle.open(packed.path).manifest.metrics == {}
    assert "There is no test part here" in Bundle.open(packed.path).read("report.html").decode()
