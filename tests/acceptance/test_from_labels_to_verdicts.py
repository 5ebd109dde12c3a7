"""Labelled pictures in, verdicts on a broker out: both programs, by their commands."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_contract.messages import Verdict
from ssn_contract.topics import Station, Topics
from support.agent import station
from support.mosquitto import Mosquitto, Subscriber
from support.parts import draw_parts

TOPICS = Topics(Station())


def trainer(*arguments: object) -> str:
    """Run `ssn-trainer` and return its standard output."""
    command = [sys.executable, "-m", "ssn_trainer.cli", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


def labelled(folder: Path, count: int, seed: int) -> Path:
    """Draw parts and sort them as an operator would."""
    truth = draw_parts(folder / "drawn", count, every=3, seed=seed)
    for name, bad in truth.items():
        target = folder / "parts" / ("block" if bad else "good") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "drawn" / name).rename(target)
    return folder / "parts"


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_the_agents_scores_are_those_of_the_trainers_evaluation(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    known, unseen = labelled(tmp_path / "a", 60, seed=1), labelled(tmp_path / "b", 24, seed=2)
    options = ["--regime", "weak", "--weights", "none", "--image-size", "64", "--epochs", 4]
    out = trainer("fit", known, "--out", tmp_path / "m", *options, "--group-by", ".*", "--json")
    fitted = json.loads(out.splitlines()[-1])
    bundle = Path(fitted["bundle"])
    trainer("eval", bundle, unseen, "--scores", tmp_path / "scores.csv", "--json")
    with (tmp_path / "scores.csv").open(newline="") as file:
        expected = {row["image"]: float(row["score"]) for row in csv.DictReader(file)}
    assert len(expected) == 24

    subscriber = Subscriber(mosquitto.port, tmp_path)
    source = {"kind": "folder", "path": unseen}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.run_once()
        received = subscriber.received()
        subscriber.close()
        topic = TOPICS.verdict("left")
        verdicts = [Verdict.model_validate_json(m.payload) for m in received if m.topic == topic]
        assert Counter(v.part_id for v in verdicts) == Counter(expected.keys())
        assert {v.verdict.value for v in verdicts} == {"PASS", "FAIL"}
        for verdict in verdicts:
            assert verdict.score == pytest.approx(expected[str(verdict.part_id)], abs=1e-4)
        fails = {v.sequence for v in verdicts if v.verdict.value == "FAIL"}
        pictures = {m.topic: m.payload for m in received if "/heatmap/" in m.topic}
        assert set(pictures) == {TOPICS.heatmap("left", sequence) for sequence in fails}
        for picture in pictures.values():
            gray = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
            assert gray is not None
            assert gray.dtype == np.uint8
        defects = agent.query(
            "SELECT DISTINCT sequence FROM defects JOIN triggers ON triggers.id = trigger_id"
        )
        assert {sequence for (sequence,) in defects} == fails
        rows = agent.query(
            "SELECT part_id, score FROM triggers JOIN verdicts ON triggers.id = trigger_id"
        )
        assert dict(rows) == {v.part_id: v.score for v in verdicts}
