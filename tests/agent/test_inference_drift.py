"""Slow changes of a camera's parts are told by medians over windows, and cease to be told."""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.reference import Reference, Scores
from ssn_agent.frames.drift_note import drift_alarm, read_drift
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference import drift_watch
from ssn_agent.inference.drift import Drift
from ssn_agent.inference.drift_watch import DriftWatch
from ssn_agent.inference.settings import DriftSettings
from ssn_contract.drift import MAX_DRIFTS, DriftStatus, Statistic
from ssn_contract.manifest import Calibration
from support.bundles import reference, write_brightness_bundle
from support.lanes import Lane
from support.scenes import GOOD, blurred, scene, with_gain

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
AS_IT_IS = Calibration(threshold=0.0, slope=1.0)
NORMAL = (-3.0, -1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28, 3.0)
"""Deciles of scores of good images."""
SCORES = Reference(scores=Scores(images=100, deciles=NORMAL))
FED = {"kind": "zeromq"}


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


def watch(given: Reference = SCORES, window: int = 100) -> Drift:
    return Drift(given, AS_IT_IS, DriftSettings(window=window))


def score(raw: float) -> float:
    return float(1 / (1 + np.exp(-raw)))


def drifts_after(drift: Drift, raws: NDArray[np.float64]) -> int | None:
    """Return after how many parts it drifts, or None."""
    for number, raw in enumerate(raws, 1):
        drift.add({"score": score(raw)})
        if drift.decide(None, NOW)[0].since is not None:
            return number
    return None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_good_parts_never_drift_nor_do_they_with_up_to_three_bad_ones_in_ten(
    seed: int, bad: float
) -> None:
    rng = np.random.default_rng(seed)
    raws = rng.standard_normal(1000)
    raws[rng.random(1000) < bad] = 20.0
    assert drifts_after(watch(window=500), raws) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([-1.5, 1.5, 4.0]))
def test_scores_that_shift_by_three_halves_of_a_deviation_drift_within_a_window(
    seed: int, by: float
) -> None:
    rng = np.random.default_rng(seed)
    raws = rng.standard_normal(400)
    raws[200:] += by
    found = drifts_after(watch(), raws)
    assert found is not None
    assert 200 < found <= 300


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=50, max_size=200), st.sampled_from([50, 51]))
def test_what_decides_is_the_median_of_the_last_parts(raws: list[int], window: int) -> None:
    drift = watch(window=window)
    for number, raw in enumerate(raws, 1):
        drift.add({"score": raw / 20})
        last = [value / 20 for value in raws[:number][-window:]]
        [status] = drift.decide(None, NOW)
        assert status.median == (median(last) if number >= window else None)


def test_a_decision_takes_no_longer_where_windows_are_large() -> None:
    drift = watch(window=10_000)
    for number in range(10_000):
        drift.add({"score": number * 7919 % 10_007 / 10_007})
    began = time.thread_time()
    for _ in range(1000):
        drift.decide(None, NOW)
    assert time.thread_time() - began < 0.2  # sorted each time: 0.25 s


def test_a_drift_ceases_below_a_lower_limit_than_it_began_at() -> None:
    drift = watch(window=50)
    began = []
    for raw in (0.6, 0.9, 0.6, 0.5, 0.6, 0.9):
        for _ in range(50):
            drift.add({"score": score(raw)})
        began.append(drift.decide(None, NOW)[0].since is not None)
    assert began == [False, True, True, False, False, True]


def test_the_time_told_is_when_a_drift_began_and_nothing_is_told_of_too_few_parts() -> None:
    drift = watch(window=50)
    for number in range(51):
        [status] = drift.decide(None, NOW)
        assert (status.parts, status.median, status.since) == (min(number, 50), *2 * [None]) or (
            number >= 50 and status.since == NOW
        )
        drift.add({"score": score(9.0)})
    later = datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert drift.decide(None, later)[0].since == NOW


def spotted(picture: Pixels, level: int) -> Pixels:
    """Return it with a seventh of it at one level, as glare does, or a shadow."""
    picture[40:88, 40:88] = level
    return picture


CHANGED: dict[Statistic, Callable[[int], Pixels]] = {
    "brightness": lambda seed: with_gain(scene(seed), 0.7),
    "sharpness": lambda seed: blurred(scene(seed), 2.5),
    "shift": lambda seed: scene(seed, right=0.05),
    "saturated": lambda seed: spotted(scene(seed), 255),
    "black": lambda seed: spotted(scene(seed), 0),
}


class Watched(Lane):
    """A camera whose note of drift is written at each turn."""

    def show(self, draw: Callable[[int], Pixels], parts: int = 50) -> list[DriftStatus]:
        """Have so many parts judged; return what is said of them."""
        for seed in range(1000, 1000 + parts):
            sequence = self.frame(draw(seed))
            assert self.result(sequence).reason is None
            self.journal.commit(sequence)
        return self.said()

    def said(self) -> list[DriftStatus]:
        while self.inference.turn():
            pass
        return read_drift(RuntimeFiles(self.settings.runtime_dir).drift("left")) or []


def drifting(found: list[DriftStatus]) -> set[str]:
    return {status.statistic for status in found if status.since is not None}


@pytest.fixture
def at_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_watch, "NOTE_S", 0.0)


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.usefixtures("at_each_turn")
def test_fit_pictures_drift_in_what_has_changed_until_it_is_as_it_was(
    name: Statistic, tmp_path: Path, runtime: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)
    checks = {"checks": ["dark", "blown_out"]}  # a spot is no sharp thing, and is to be judged
    drift = {"window": 50}
    lane = Watched(tmp_path, runtime, bundle=bundle, source=FED, fitness=checks, drift=drift)
    assert drifting(lane.show(scene)) == set()
    assert name in drifting(lane.show(CHANGED[name]))
    assert drifting(lane.show(scene)) == set()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=24), st.randoms(use_true_random=False))
def test_less_than_half_of_the_pictures_move_no_figure_however_far_they_lie(
    far: list[float], random: Random
) -> None:
    drift = Drift(reference(GOOD), AS_IT_IS, DriftSettings(window=50))
    values = [*far, *[60.0] * (50 - len(far))]
    random.shuffle(values)
    for value in values:
        drift.add(dict.fromkeys(("brightness",), value))
    [status] = [s for s in drift.decide(None, NOW) if s.statistic == "brightness"]
    assert (status.median, status.since) == (60.0, None)


@pytest.mark.usefixtures("at_each_turn")
def test_without_checks_each_so_manyth_picture_is_measured_and_found_the_same(
    tmp_path: Path, runtime: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)
    lane = Watched(
        tmp_path,
        runtime,
        bundle=bundle,
        source=FED,
        fitness={"checks": []},
        drift={"window": 50, "every": 2, "statistics": ["brightness"]},
    )
    [status] = lane.show(CHANGED["brightness"], 98)
    assert (status.parts, status.since) == (49, None)
    [status] = lane.show(CHANGED["brightness"], 2)
    assert (status.parts, drifting([status])) == (50, {"brightness"})


@pytest.mark.usefixtures("at_each_turn")
def test_a_new_bundle_and_a_new_process_begin_anew(tmp_path: Path, runtime: Path) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)
    lane = Watched(tmp_path, runtime, bundle=bundle, source=FED, drift={"window": 50})
    assert "brightness" in drifting(lane.show(CHANGED["brightness"]))
    watched = DriftWatch("left", RuntimeFiles(runtime).drift("left"))
    assert lane.said() == []  # until it has judged a part
    said = DriftSettings(window=50)
    for number, good in enumerate((GOOD, GOOD[1:])):
        other = Bundle.open(write_brightness_bundle(tmp_path / f"{number}.ssn", good=good))
        watched.add(None, other, {"brightness": 30.0}, said)
        watched.note()
        assert {s.parts for s in lane.said() if s.statistic == "brightness"} == {1}


@pytest.mark.usefixtures("at_each_turn")
def test_each_product_has_a_window_and_what_drifts_is_told_before_all_else(
    tmp_path: Path,
) -> None:
    bundle = Bundle.open(write_brightness_bundle(tmp_path / "b.ssn", good=GOOD))
    watched, said = DriftWatch("left", tmp_path / "note"), DriftSettings(window=50)
    for product in ("first", *map(str, range(20))):
        for _ in range(50):
            watched.add(product, bundle, {"brightness": 30.0 if product == "first" else 58.0}, said)
    watched.note()
    found = read_drift(tmp_path / "note")
    assert found is not None
    assert (len(found), found[0].product, drifting(found[1:])) == (MAX_DRIFTS, "first", set())
    alarm = drift_alarm(found[0])
    assert alarm is not None
    assert alarm.startswith("brightness of first drifts: median 30 of the last 50 parts, good is ")


@pytest.mark.usefixtures("at_each_turn")
def test_a_watch_that_is_switched_off_is_off_for_products_that_are_not_made_now(
    tmp_path: Path,
) -> None:
    bundle = Bundle.open(write_brightness_bundle(tmp_path / "b.ssn", good=GOOD))
    watched, said = DriftWatch("left", tmp_path / "note"), DriftSettings(window=50)
    for _ in range(50):
        watched.add("first", bundle, {"brightness": 30.0}, said)
    watched.note()
    assert drifting(read_drift(tmp_path / "note") or []) == {"brightness"}
    watched.add("second", bundle, {"brightness": 58.0}, DriftSettings(statistics=()))
    watched.note()
    assert read_drift(tmp_path / "note") is None


@pytest.mark.usefixtures("at_each_turn")
def test_a_bundle_that_says_nothing_of_good_images_is_not_watched_and_the_log_says_so(
    tmp_path: Path, runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lane = Watched(tmp_path, runtime, bundle=write_brightness_bundle(tmp_path / "b.ssn"))
    assert lane.show(scene) == []
    assert "not_known_of_good_images" in capsys.readouterr().out


def test_few_held_out_scores_say_nothing_and_a_note_of_another_version_is_none(
    tmp_path: Path,
) -> None:
    few = Reference(scores=Scores(images=19, deciles=NORMAL))
    assert watch(few).watched == ()
    assert watch().watched == ("score",)
    (tmp_path / "note").write_text('[{"statistic": "mood"}]')
    assert read_drift(tmp_path / "note") is None


def test_deciles_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValidationError, match="do not rise"):
        Scores(images=100, deciles=NORMAL[::-1])
