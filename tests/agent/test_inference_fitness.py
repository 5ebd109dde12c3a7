"""A picture that is not fit to judge is INVALID for its reason, and not scored."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.bundles.reference import Pictures, Reference
from ssn_agent.errors import BundleError
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.inference.fitness import MIN_IMAGES, Fitness, describe_pictures, measure
from ssn_agent.inference.repeats import Repeats
from ssn_agent.inference.settings import FitnessSettings
from ssn_contract.messages import InvalidReason
from support.bundles import files, manifest, reference, write_brightness_bundle
from support.lanes import Lane
from support.scenes import GOOD, blurred, scene, with_gain

ALL = FitnessSettings().checks
NET = 128
"""Side of the network's input where no network is needed."""
GOOD_REFERENCE = reference(GOOD, NET)
FED = {"kind": "zeromq"}
UNFIT: dict[InvalidReason, Callable[[int], Pixels]] = {
    InvalidReason.DARK: lambda seed: with_gain(scene(seed), 0.15),
    InvalidReason.BLOWN_OUT: lambda seed: with_gain(scene(seed), 4),
    InvalidReason.OUT_OF_FOCUS: lambda seed: blurred(scene(seed), 8),
    InvalidReason.MOVED: lambda seed: scene(seed, right=0.25),
    InvalidReason.WRONG_SIZE: lambda seed: scene(seed, side=96),
}


def unfit(given: Reference, picture: Pixels) -> InvalidReason | None:
    """Say why a picture is unfit beside a reference, with all checks."""
    row = to_network_input(picture, NET, NET)
    return Fitness(given, ALL).unfit(row, *picture.shape[:2])


def pictures(given: Reference) -> Pictures:
    assert given.pictures is not None
    return given.pictures


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)


def test_each_unfit_picture_gets_its_reason_unscored_and_a_normal_one_after_it_is_judged(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, source=FED)
    seeds = iter(range(100, 200))
    for reason, draw in UNFIT.items():
        result = lane.result(lane.frame(draw(next(seeds))))
        assert (result.outcome, result.reason) == (Outcome.INVALID, reason)
        assert (result.engine, result.score) == ("", 0.0)  # no model saw it
        assert lane.result(lane.frame(scene(next(seeds)))).outcome is Outcome.PASS
    repeated = [lane.result(lane.frame(scene(500))) for _ in range(3)]
    assert [result.reason for result in repeated] == [None, *2 * [InvalidReason.FROZEN]]
    assert lane.result(lane.frame(scene(next(seeds)))).outcome is Outcome.PASS


def test_what_is_checked_is_noted_beside_what_judges_and_the_log_says_why_others_are_not(
    tmp_path: Path, runtime: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, made in (
        (bundle, {InvalidReason.FROZEN, *UNFIT}),
        (write_brightness_bundle(tmp_path / "old.ssn"), {InvalidReason.FROZEN}),
    ):
        lane = Lane(tmp_path / path.stem, runtime / path.stem, bundle=path, source=FED)
        note = lane.journal.model_note()
        assert note is not None
        assert (set(note.checks), note.message) == (made, "")
    says = capsys.readouterr().out
    assert says.count("pictures are checked") == 2
    assert "the bundle does not say how good images look" in says


def test_without_a_reference_a_dark_picture_is_judged_and_a_frozen_one_is_not(
    tmp_path: Path, runtime: Path
) -> None:
    plain = write_brightness_bundle(tmp_path / "plain.ssn")
    lane = Lane(tmp_path, runtime, bundle=plain, source=FED)
    dark = with_gain(scene(1), 0.15)
    assert lane.result(lane.frame(dark)).outcome is Outcome.PASS
    assert lane.result(lane.frame(dark)).reason is InvalidReason.FROZEN


def test_pictures_of_files_may_be_the_same_and_those_of_a_watched_folder_may_not(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    folder = {"kind": "folder", "path": str(tmp_path)}
    sources = {
        "folder": (folder, Outcome.PASS),
        "video": ({"kind": "video", "path": "v.mp4"}, Outcome.PASS),
        "watched": ({**folder, "watch": True}, Outcome.INVALID),
    }
    for name, (source, outcome) in sources.items():
        lane = Lane(tmp_path / name, runtime / name, bundle=bundle, source=source)
        lane.result(lane.frame(scene(7)))
        assert lane.result(lane.frame(scene(7))).outcome is outcome, name


def test_checks_that_are_switched_off_while_it_runs_are_not_made_from_the_next_frame_on(
    tmp_path: Path, runtime: Path, bundle: Path
) -> None:
    lane = Lane(tmp_path, runtime, bundle=bundle, source=FED)
    dark = with_gain(scene(1), 0.15)
    assert lane.result(lane.frame(dark)).reason is InvalidReason.DARK
    fitness = FitnessSettings(checks=("moved",), frozen_after=0)
    camera = lane.settings.cameras["left"].model_copy(update={"fitness": fitness})
    lane.inference.take_over(lane.settings.model_copy(update={"cameras": {"left": camera}}))
    assert lane.result(lane.frame(dark)).outcome is Outcome.PASS
    note = lane.journal.model_note()
    assert note is not None
    assert note.checks == (InvalidReason.MOVED,)


def test_a_defect_is_the_models_to_find_however_large() -> None:
    for seed in range(100, 130):
        scratched, lost = scene(seed), scene(seed)
        cv2.line(scratched, (5, 120), (120, 5), 250, 8)
        lost[30:98, 30:98] = 40 + seed % 3  # a part that is not there
        assert unfit(GOOD_REFERENCE, scratched) is None
        assert unfit(GOOD_REFERENCE, lost) is None


def test_what_is_found_again_nowhere_has_not_moved_and_is_the_models_to_judge() -> None:
    for seed in range(100, 130):
        another = np.ascontiguousarray(np.rot90(scene(seed)))
        assert unfit(GOOD_REFERENCE, another) is None


def test_what_is_somewhat_brighter_softer_or_off_than_images_all_alike_is_fit() -> None:
    others = [with_gain(scene(50), gain) for gain in (0.7, 1.4)]
    others += [blurred(scene(51), 0.8), scene(52, right=0.04)]
    assert unfit(GOOD_REFERENCE, scene(53, right=0.1)) is InvalidReason.MOVED
    assert [unfit(GOOD_REFERENCE, picture) for picture in others] == 4 * [None]


@settings(max_examples=25)
@given(st.integers(1000, 10_000))
def test_another_good_picture_is_fit_and_each_kind_of_unfit_one_is_not(seed: int) -> None:
    assert unfit(GOOD_REFERENCE, scene(seed)) is None
    for reason, draw in UNFIT.items():
        assert unfit(GOOD_REFERENCE, draw(seed)) is reason


def test_a_bound_lies_as_far_beyond_the_furthest_as_that_one_from_the_median() -> None:
    good = reference([with_gain(picture, gain) for gain in (1, 1.4, 2) for picture in GOOD], NET)
    median = pictures(good).brightness.median
    lowest = pictures(good).brightness.lowest
    bound = lowest**2 / median  # in logarithms; the floor, half of the lowest, is above it
    assert bound > lowest / 2
    assert unfit(good, with_gain(scene(60), 0.98 * lowest / 2 / 60)) is InvalidReason.DARK
    assert unfit(good, with_gain(scene(60), 1.05 * lowest / 2 / 60)) is None


def test_good_images_of_several_sizes_allow_those_between_and_one_size_no_other() -> None:
    several = reference([scene(seed, side=96 + seed) for seed in range(30)], NET)
    assert unfit(several, scene(60, side=135)) is None
    assert unfit(several, scene(60, side=180)) is InvalidReason.WRONG_SIZE
    assert unfit(GOOD_REFERENCE, scene(60, side=129)) is InvalidReason.WRONG_SIZE


def test_where_parts_lie_anywhere_a_moved_view_means_nothing_and_the_check_is_off() -> None:
    rng = np.random.default_rng(3)
    free = reference([scene(seed, right=float(rng.uniform(-0.5, 0.5))) for seed in range(40)], NET)
    fitness = Fitness(free, ALL)
    assert set(fitness.off) == {"moved"}
    assert "differ freely" in fitness.off["moved"]
    assert InvalidReason.MOVED not in fitness.checks


def test_images_of_one_part_tell_nothing_of_where_another_lies() -> None:
    measured = [measure(to_network_input(picture, NET, NET), NET, NET) for picture in GOOD]
    alone = Reference(pictures=describe_pictures(measured, ["one part"] * len(GOOD)))
    assert set(Fitness(alone, ALL).off) == {"moved"}


def test_images_that_are_few_black_blown_out_or_flat_support_no_check_and_it_says_so() -> None:
    few = Fitness(reference(GOOD[: MIN_IMAGES - 1]), ALL)
    assert (few.checks, set(few.off)) == ((), set(ALL))
    assert "19 good images, 20 are needed" in few.off["dark"]
    bright = Fitness(reference([with_gain(picture, 20) for picture in GOOD]), ALL)
    assert "nearly blown out" in bright.off["blown_out"]
    flat = Fitness(reference([np.full((64, 64), level, np.uint8) for level in range(60, 90)]), ALL)
    assert "too little detail" in flat.off["out_of_focus"]
    black = Fitness(reference([np.full((64, 64), n // 6, np.uint8) for n in range(30)]), ALL)
    assert "nearly black" in black.off["dark"]


def test_a_flat_picture_has_no_detail() -> None:
    gray = np.full((128, 128), 60, np.uint8)
    assert unfit(GOOD_REFERENCE, gray) is InvalidReason.OUT_OF_FOCUS


@pytest.mark.parametrize("value", [0, 4, 100, 251, 255])
def test_figures_of_a_flat_picture_are_finite(value: int) -> None:
    measured = measure(np.full((32, 40, 3), value, np.uint8), 64, 64)
    figures = (measured.brightness, measured.black, measured.saturated, measured.sharpness)
    assert np.isfinite([*figures, *measured.view.ravel()]).all()
    assert (measured.black, measured.saturated) == (float(value <= 4), float(value >= 251))


@given(st.lists(st.sampled_from("aabc"), max_size=30))
def test_repeats_counts_identical_pictures_in_a_row_by_their_bytes(drawn: list[str]) -> None:
    base = np.arange(48, dtype=np.uint8)
    frames = {"a": base.reshape(6, 8), "b": base.reshape(4, 4, 3), "c": base.reshape(6, 8).copy()}
    frames["c"][-1, -1] ^= 1  # the last bit of all
    repeats, expected = Repeats(), 0
    for place, name in enumerate(drawn):
        expected = expected + 1 if place and drawn[place - 1] == name else 1
        assert repeats.count(frames[name]) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"[]", "object"),
        (b'{"version": 2}', "version"),
        (b'{"pictures": {"images": 0}}', "images"),
        (b'"' + 2**20 * b"x" + b'"', "larger"),
    ],
)
def test_a_bundle_whose_reference_is_not_one_is_refused_and_says_why(
    tmp_path: Path, given: bytes, says: str
) -> None:
    path = tmp_path / "b.ssn"
    write_bundle(path, manifest(), {**files(), "reference.json": given})
    with pytest.raises(BundleError, match=rf"reference\.json is not one.*{says}"):
        Bundle.open(path)


@pytest.mark.parametrize("damage", ["view", "order", "nan", "beyond"])
def test_a_reference_with_impossible_figures_is_refused(tmp_path: Path, damage: str) -> None:
    said = json.loads(reference(GOOD).model_dump_json())
    if damage == "view":
        said["pictures"]["view"]["pixels"] = said["pictures"]["view"]["pixels"][:-100]
    elif damage == "beyond":
        said["pictures"]["brightness"]["highest"] = 1e300
    else:
        said["pictures"]["sharpness"]["lowest"] = 9.0 if damage == "order" else float("nan")
    path = tmp_path / "b.ssn"
    write_bundle(path, manifest(), {**files(), "reference.json": json.dumps(said).encode()})
    with pytest.raises(BundleError, match=r"reference\.json is not one"):
        Bundle.open(path)


def test_a_reference_of_an_earlier_trainer_is_none_and_its_bundle_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "b.ssn"
    earlier = b'{"images": 40, "brightness": {"mean": 90.0}, "score": {"mean": 0.1}}'
    write_bundle(path, manifest(), {**files(), "reference.json": earlier})
    assert Bundle.open(path).reference == Reference()
