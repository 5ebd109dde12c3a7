"""A twin is shipped with figures of its own, or not at all."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.pack import twin as module
from ssn_trainer.pack.judge import Judged, judge
from ssn_trainer.pack.twin import Twin, TwinName, measure_twin

SIZE = (32, 32)


def exact(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score a picture by its brightness: the map is the red channel, the score its mean."""
    maps = inputs[..., 0].astype(np.float32)
    return maps.mean(axis=(1, 2)), maps


class Shifted:
    """Stands for the engine: it answers with other figures."""

    name = "shifted"

    def __init__(self, by: float, *, noise: float = 0.0, upside_down: bool = False) -> None:
        self._by, self._noise, self._sign = by, noise, -1 if upside_down else 1

    def run(self, inputs: NDArray[np.uint8]) -> Any:
        scores, maps = exact(inputs)
        above = np.where(scores // 4 % 2, 1, -1)  # every second level
        return self._sign * scores + self._by + self._noise * above, maps + 2 * self._by


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    root = tmp_path_factory.mktemp("parts")
    for label, levels in (("good", range(20, 60, 4)), ("bad", range(60, 100, 4))):
        (root / label).mkdir()
        for level in levels:
            picture = np.full((*SIZE, 3), level, np.uint8)
            assert cv2.imwrite(str(root / label / f"{level}.png"), picture)
    return list(load(root).samples)


def measured(
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    *engines: Shifted,
    name: TwinName = "bf16",
    file: str = "model.onnx",
) -> Twin:
    started = iter(engines)

    def start(name: str, *_: Any) -> Shifted:
        engine = next(started)
        engine.name = name
        return engine

    monkeypatch.setattr(module, "why_not", lambda _: None)
    monkeypatch.setattr(module, "start_engine", start)
    fp32 = judge(exact, samples, *SIZE, lambda _: None)
    return measure_twin(name, b"", file, exact, fp32, choose, SIZE, lambda _: None)


def choose(judged: Judged) -> tuple[Calibration, Calibration]:
    """Return the highest score and the highest peak as thresholds: they tell whose they are."""
    score, peak = float(judged.scores.max()), float(judged.peaks.max())
    return Calibration(threshold=score, slope=1.0), Calibration(threshold=peak, slope=1.0)


def test_its_calibrations_are_those_of_its_own_answers_and_twice_the_shift_is_allowed(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = measured(samples, monkeypatch, Shifted(0.25)).precision
    assert precision is not None
    assert (precision.name, precision.file) == ("bf16", "model.onnx")
    assert precision.score.threshold == pytest.approx(96.25)
    assert precision.map.threshold == pytest.approx(96.5)
    assert precision.tolerance.score == pytest.approx(0.5, abs=2e-4)
    assert precision.tolerance.map == pytest.approx(1.0, abs=2e-4)


def test_it_is_left_out_where_it_costs_accuracy(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(samples, monkeypatch, Shifted(0.0, upside_down=True))
    assert found.precision is None
    assert found.refused is not None
    assert "i_auroc of the tune part is 0.0000 with it and 1.0000 without" in found.refused


def test_of_several_engines_the_first_calibrates_and_the_one_that_shifts_most_is_allowed(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Shifted(0.25), Shifted(0.5)
    precision = measured(samples, monkeypatch, *engines, name="int8", file="twin").precision
    assert precision is not None
    assert (precision.name, precision.file) == ("int8", "twin")
    assert precision.score.threshold == pytest.approx(96.25)
    assert precision.tolerance.score == pytest.approx(1.0, abs=2e-4)
    assert precision.tolerance.map == pytest.approx(2.0, abs=2e-4)


def test_one_engine_that_costs_accuracy_is_enough_to_leave_it_out(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Shifted(0.25), Shifted(0.0, upside_down=True)
    found = measured(samples, monkeypatch, *engines, name="int8")
    assert found.precision is None
    assert found.refused is not None
    assert found.refused.startswith("int8 is left out: on openvino/int8 i_auroc")


@pytest.mark.parametrize(("noise", "is_in"), [(0.0, True), (2.6, True), (2.8, False)])
def test_without_bad_images_its_noise_is_held_against_the_spread_of_the_good_ones(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, noise: float, *, is_in: bool
) -> None:
    good = [sample for sample in samples if sample.label == "good"]  # a spread of 13.3
    # The shift is the same for all and is left to the calibrations.
    found = measured(good, monkeypatch, Shifted(9.0, noise=noise))
    assert (found.precision is not None, found.refused is None) == (is_in, is_in)


def test_an_unusual_good_part_does_not_make_a_twin_s_noise_look_small(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "good").mkdir()
    assert cv2.imwrite(str(tmp_path / "good" / "dirty.png"), np.full((*SIZE, 3), 252, np.uint8))
    good = [sample for sample in samples if sample.label == "good"]
    good += load(tmp_path).samples
    assert np.std([*range(20, 60, 4), 252]) > 5 * 3.5  # by their deviation it would pass
    found = measured(good, monkeypatch, Shifted(0.0, noise=3.5))
    assert "where the good scores vary by 15 (from their quartiles)" in str(found.refused)


def test_where_the_machine_cannot_tell_nothing_is_shipped_and_nothing_is_said(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "why_not", lambda _: "not installed")
    fp32 = judge(exact, samples, *SIZE, lambda _: None)
    found = measure_twin("bf16", b"", "model.onnx", exact, fp32, choose, SIZE, lambda _: None)
    assert found == Twin()
