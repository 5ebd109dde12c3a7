"""The whole loop: verdicts, labels, a fit, a channel, a shadow, a swap, probation, and back.

Real processes, mosquitto, and Python's own file server. The first model has never seen that good
parts may have an upright bar; the line's parts have one, and labels say so.
"""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_contract.messages import ModelInForce
from ssn_contract.topics import Station, Topics
from support.agent import station
from support.channels import Plant, static_files
from support.http_api import write_token
from support.loop import Loop, Part, fit, trainer
from support.mosquitto import Mosquitto, Subscriber, answers, free_port
from support.waiting import wait_until

TOPICS = Topics(Station())
FIT = ("--regime", "weak", "--weights", "none", "--image-size", 64, "--precisions", "none")
BRIGHT = 20
"""Gray levels by which the light rises for the last model's flaw to show."""


def parts(seed: int, bars: bool = True, brighter: int = 0) -> Iterator[Part]:
    """Draw parts without end: noise with a lying bar where it is bad, an upright one where not."""
    rng = np.random.default_rng(seed)
    for number in count():
        image = rng.integers(20, 90, (96, 128)).astype(np.int32) + brighter
        y, x = rng.integers(5, 60), rng.integers(5, 90)
        bad = number % 3 == 0
        if bad:
            image[y : y + 8, x : x + 32] += 80
        elif bars:
            image[y : y + 32, x : x + 8] += 80
        yield Part(f"s{seed}-{number:05d}", np.clip(image, 0, 255).astype(np.uint8), bad)


def first(number: int, source: Iterator[Part]) -> list[Part]:
    return [next(source) for _ in range(number)]


def write_folder(folder: Path, some: list[Part]) -> Path:
    """Sort parts into folders, as an operator does on the first day."""
    for part in some:
        path = folder / ("bad" if part.bad else "good") / f"{part.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), part.picture)
    return folder


def with_labels_turned(data: Path, out: Path) -> Path:
    """Copy an export with good for bad and bad for good."""
    out.mkdir()
    (out / "images").symlink_to(data / "images")
    text = (data / "labels.csv").read_text()
    turned = text.replace(",good,", ",#,").replace(",bad,", ",good,").replace(",#,", ",bad,")
    (out / "labels.csv").write_text(turned)
    return out


def with_a_flaw(bundle: Path, out: Path, version: str, above: float) -> Path:
    """Write the bundle with a graph that takes every picture above a mean gray level for bad."""
    opened = Bundle.open(bundle)
    model = onnx.load_from_string(opened.read("model.onnx"))
    graph = model.graph
    given = graph.input[0].name
    outputs = [graph.output[0].name, graph.output[1].name]
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name in outputs:
                node.output[place] = f"{name}_sound"
    graph.initializer.extend(
        [
            helper.make_tensor("flaw_level", TensorProto.FLOAT, [], [above]),
            helper.make_tensor("flaw_weight", TensorProto.FLOAT, [], [1e3]),
            helper.make_tensor("flaw_axes", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("flaw_spread", TensorProto.INT64, [3], [-1, 1, 1]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Cast", [given], ["flaw_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["flaw_float", "flaw_axes"], ["flaw_mean"], keepdims=0),
            helper.make_node("Greater", ["flaw_mean", "flaw_level"], ["flaw_is"]),
            helper.make_node("Cast", ["flaw_is"], ["flaw_one"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["flaw_one", "flaw_weight"], ["flaw"]),
            helper.make_node("Add", [f"{outputs[0]}_sound", "flaw"], [outputs[0]]),
            helper.make_node("Reshape", ["flaw", "flaw_spread"], ["flaw_map"]),
            helper.make_node("Add", [f"{outputs[1]}_sound", "flaw_map"], [outputs[1]]),
        ]
    )
    names = [entry.path for entry in opened.manifest.entries]
    entries = {name: opened.read(name) for name in names}
    entries["model.onnx"] = model.SerializeToString()
    manifest = opened.manifest.model_dump(mode="json", exclude={"entries"})
    write_bundle(out, {**manifest, "version": version}, entries)
    return out


@pytest.mark.needs("mosquitto", "mosquitto_sub")
@pytest.mark.timeout(400)
def test_labels_make_a_better_model_and_a_worse_one_does_not_stay(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    few = write_folder(tmp_path / "few", first(16, parts(1, bars=False)))
    v1 = Path(fit(few, tmp_path / "m", "1", *FIT, "--epochs", 2)["bundle"])
    plant = Plant.made(tmp_path / "plant")
    http_port, zmq_port = free_port(), free_port()
    bind = f"tcp://127.0.0.1:{zmq_port}"
    subscriber = Subscriber(mosquitto.port, tmp_path)
    line = parts(2)
    with (
        static_files(plant.folder) as url,
        station(
            tmp_path,
            mosquitto.port,
            source={"kind": "zeromq", "bind": bind},
            bundle=str(v1),
            follow="parts",
            deadline_ms=20_000,
            keep={"pass_share": 1.0},
        ) as agent,
    ):
        agent.top |= {
            "http": {"port": http_port, "token_file": str(write_token(tmp_path))},
            "channel": {"url": url, "root_file": str(plant.metadata / "1.root.json")},
            "updates": {"shadow_frames": 30, "probation_parts": 40},
        }
        agent.start()
        loop = Loop(agent, plant, http_port, bind)
        wait_until(lambda: answers(http_port), 60, "the API does not answer")

        # A shift's parts, labelled by somebody who knows; the verdicts of the first model are poor.
        sent = loop.send(first(60, line))
        loop.label(sent)
        data = loop.export(tmp_path / "export")

        # The better model: fitted on the export, published, shadowed, swapped to, kept.
        fitted = fit(data, tmp_path / "m", "2", *FIT, "--epochs", 2, "--format", "ledger")
        v2 = Path(fitted["bundle"])
        loop.publish(v2)
        ended = ("kept", "refused", "rolled_back")
        assert loop.send_until(line, "2", *ended, limit_s=120) == "kept", loop.why("2")
        assert loop.steps("2") == ["pulled", "tried", "shadow", "swapped", "kept"]

        # On parts that neither has seen.
        held = first(90, parts(9))
        folder = write_folder(tmp_path / "held", held)
        out = trainer("eval", v2, folder, "--against", v1, "--json").splitlines()[-1]
        against = json.loads(out)["against"]
        assert against["rise"] >= 0.05
        assert against["interval"][0] > 0

        # One that has learned the contrary does not come past the shadow: parts that were labelled
        # since, which neither has learned, speak against it.
        loop.label(loop.send(first(30, line)))
        turned = with_labels_turned(data, tmp_path / "turned")
        v3 = Path(fit(turned, tmp_path / "m", "3", *FIT, "--epochs", 2)["bundle"])
        loop.publish(v3)
        assert loop.send_until(line, "3", *ended, "swapped", limit_s=120) == "refused", loop.why(
            "3"
        )
        assert "labelled" in loop.why("3")

        # One with a flaw that shows in another light alone is swapped to, and gone back from.
        flawed = with_a_flaw(v2, tmp_path / "parts-4.ssn", "4", above=70.0)
        loop.publish(flawed)
        assert loop.send_until(line, "4", *ended, "swapped", limit_s=120) == "swapped"
        bright = parts(3, brighter=BRIGHT)
        assert loop.send_until(bright, "4", "kept", "rolled_back", limit_s=120) == "rolled_back"
        digest = Bundle.open(v2).digest
        wait_until(
            lambda: (
                agent.query("SELECT bundle_digest FROM verdicts ORDER BY trigger_id DESC")[0]
                == (digest,)
                or not loop.send(first(1, line), 0.02)
            ),
            60,
            "the one before does not judge again",
        )

        assert agent.stop() == 0, agent.log()
        told = [
            ModelInForce.model_validate_json(message.payload)
            for message in subscriber.received()
            if message.topic == TOPICS.model("left")
        ]
        steps = [(m.update.bundle.version, m.update.step) for m in told if m.update is not None]
        assert list(dict.fromkeys(steps)) == [
            *[("2", step) for step in ("pulled", "tried", "shadow", "swapped", "kept")],
            *[("3", step) for step in ("pulled", "tried", "shadow", "refused")],
            *[("4", step) for step in ("pulled", "tried", "shadow", "swapped", "rolled_back")],
        ]
        triggers = agent.query("SELECT count(*), max(sequence) FROM triggers")
        assert triggers == agent.query("SELECT count(*), count(*) FROM verdicts")
        subscriber.close()
        loop.close()
