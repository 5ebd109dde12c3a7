"""`reference.json` says of the good images what the agent will measure of a picture."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.bundles.reference import Reference
from ssn_agent.frames.pixels import to_network_input
from ssn_agent.inference.fitness import Fitness, measure
from ssn_agent.inference.settings import FitnessSettings
from ssn_contract.messages import InvalidReason
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.errors import DataError
from ssn_trainer.pack.reference import describe
from support.scenes import GOOD, scene, with_gain

SIZE = 96, 64
HELD_OUT = np.linspace(10, 0, 41, dtype=np.float32)
ALL = FitnessSettings().checks


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("data")
    for kind, pictures in {"good": GOOD, "bad": [scene(90)]}.items():
        (folder / kind).mkdir()
        for number, picture in enumerate(pictures):
            assert cv2.imwrite(str(folder / kind / f"{number:03d}.png"), picture)
    return [s for s in load(folder, ".*").samples if s.label == "good"]


def described(good: list[Sample]) -> Reference:
    content = describe(good, np.zeros(len(good), np.float32), HELD_OUT, *SIZE)
    return Reference.model_validate_json(json.dumps(content))


def test_the_agent_reads_what_the_trainer_wrote_and_measures_the_very_same(
    good: list[Sample],
) -> None:
    pictures = described(good).pictures
    assert pictures is not None
    measured = [measure(to_network_input(picture, *SIZE), *picture.shape[:2]) for picture in GOOD]
    for name in ("width", "height", "brightness", "black", "saturated", "sharpness"):
        values = [getattr(m, name) for m in measured]
        spread = getattr(pictures, name)
        assert (spread.lowest, spread.highest) == (min(values), max(values)), name
        assert spread.median == pytest.approx(np.median(values))
    assert pictures.images == len(GOOD)
    assert pictures.view is not None
    assert pictures.view.shift.highest == 0


def test_held_out_good_images_scores_are_told_by_their_deciles_and_none_where_there_are_none(
    good: list[Sample],
) -> None:
    scores = described(good).scores
    assert scores is not None
    assert scores.images == 41
    assert scores.deciles == pytest.approx(list(range(11)))
    nothing = describe(good, np.zeros(len(good), np.float32), HELD_OUT[:0], *SIZE)
    assert Reference.model_validate_json(json.dumps(nothing)).scores is None


def test_with_what_the_trainer_wrote_every_check_is_made(good: list[Sample]) -> None:
    fitness = Fitness(described(good), ALL)
    assert fitness.off == {}
    for picture, reason in (
        (scene(200), None),
        (with_gain(scene(201), 0.15), InvalidReason.DARK),
        (scene(202, right=0.25), InvalidReason.MOVED),
    ):
        row = to_network_input(picture, *SIZE)
        assert fitness.unfit(row, *picture.shape[:2]) is reason


def test_images_of_one_part_do_not_find_each_other_again(
    good: list[Sample], tmp_path: Path
) -> None:
    """Views that differ freely from part to part are the same within a part."""
    rng = np.random.default_rng(0)
    samples = []
    for part in range(12):
        right = float(rng.uniform(-0.5, 0.5))
        for number in range(3):
            path = tmp_path / f"{part}-{number}.png"
            assert cv2.imwrite(str(path), scene(10 * part + number, right=right))
            samples.append(dataclasses.replace(good[0], path=path, group=f"{part:02d}"))
    assert "differ freely" in Fitness(described(samples), ALL).off["moved"]


def test_an_image_that_cannot_be_read_any_more_is_named(good: list[Sample], tmp_path: Path) -> None:
    gone = dataclasses.replace(good[0], path=tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        described([*good, gone])
