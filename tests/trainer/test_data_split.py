"""A split keeps every part of the line on one side, and every label on all."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_trainer.data.listing import Part
from ssn_trainer.data.samples import DataSet, Sample
from ssn_trainer.data.split import Split, split
from ssn_trainer.errors import DataError

PARTS = ("train", "tune", "test")


def sample(number: int, group: str, kind: str | None = None, part: Part | None = None) -> Sample:
    folder = f"{part}/{kind or 'good'}" if part else kind or "good"
    name = f"{folder}/{number:04}.png"
    label: Literal["good", "bad"] = "good" if kind is None else "bad"
    return Sample(Path(name), name, label, kind, None, group, part, f"{number:064x}")


def data_set(samples: Sequence[Sample], grouped_by: str = "the list groups.csv") -> DataSet:
    layout: Literal["folder", "mvtec"] = "mvtec" if any(s.part for s in samples) else "folder"
    return DataSet(Path("parts"), layout, grouped_by, tuple(samples))


def named_parts(cut: Split) -> dict[str, list[str]]:
    return {p: [s.name for s in getattr(cut, p)] for p in PARTS}


@st.composite
def labelled_groups(
    draw: st.DrawFn,
    part: Part | None = None,
    kinds: Sequence[str | None] = (None, "crack", "stain"),
    least: int = 3,
) -> list[Sample]:
    """Samples with at least `least` groups of each label, some groups of several kinds."""
    contents = draw(
        st.lists(st.lists(st.sampled_from(kinds), min_size=1, max_size=7), min_size=1, max_size=30)
    )
    for label in ({None}, set(kinds) - {None}):
        lacking = least - sum(any(k in label for k in content) for content in contents)
        contents += [[min(label, key=str)]] * lacking if label else []
    order = [(f"g{i}", kind) for i, content in enumerate(contents) for kind in content]
    return [sample(i, group, kind, part) for i, (group, kind) in enumerate(order)]


@settings(deadline=None)
@given(labelled_groups(), st.integers(0, 5))
def test_no_group_is_cut_no_image_is_lost_and_every_label_is_in_every_part(
    samples: list[Sample], seed: int
) -> None:
    cut = split(data_set(samples), seed)
    parts = [getattr(cut, p) for p in PARTS]
    groups = [{s.group for s in part} for part in parts]
    assert sum(len(held) for held in groups) == len(set.union(*groups))
    assert sorted(s.name for part in parts for s in part) == sorted(s.name for s in samples)
    assert all({s.label for s in part} == {"good", "bad"} for part in parts)


@settings(deadline=None)
@given(labelled_groups(part="train", least=2), st.integers(0, 5))
def test_where_the_layout_marks_a_test_part_only_train_and_tune_are_cut(
    samples: list[Sample], seed: int
) -> None:
    cut = split(data_set(samples), seed)
    assert not cut.test
    assert not {s.group for s in cut.train} & {s.group for s in cut.tune}
    assert Counter((*cut.train, *cut.tune)) == Counter(samples)


@settings(deadline=None)
@given(labelled_groups(), st.integers(0, 5), st.randoms())
def test_the_same_samples_and_seed_give_the_same_split_in_any_order(
    samples: list[Sample], seed: int, shuffler: Random
) -> None:
    shuffled = list(samples)
    shuffler.shuffle(shuffled)
    assert named_parts(split(data_set(samples), seed)) == named_parts(
        split(data_set(shuffled), seed)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_shares_and_kinds_come_out_near_60_20_20(seed: int) -> None:
    kinds = [*[None] * 60, *["crack"] * 15, *["stain"] * 10]
    samples = [sample(6 * i + j, f"g{i}", kind) for i, kind in enumerate(kinds) for j in range(6)]
    cut = split(data_set(samples), seed)
    for kind in (None, "crack", "stain"):
        of_kind = [sum(s.kind == kind for s in getattr(cut, p)) for p in PARTS]
        wanted = [share * sum(of_kind) for share in (0.6, 0.2, 0.2)]
        assert all(abs(n - w) <= 6 for n, w in zip(of_kind, wanted, strict=True))


def test_seeds_draw_different_splits() -> None:
    samples = [sample(i, f"g{i}", None if i % 3 else "crack") for i in range(90)]
    drawn = {tuple(s.name for s in split(data_set(samples), seed).test) for seed in range(5)}
    assert len(drawn) == 5


def test_good_images_alone_are_cut_too() -> None:
    cut = split(data_set([sample(i, f"g{i}") for i in range(50)]), 0)
    assert [len(getattr(cut, p)) for p in PARTS] == [30, 10, 10]


def test_of_a_marked_train_part_a_quarter_tunes() -> None:
    train = [sample(i, f"g{i}", None, "train") for i in range(40)]
    cut = split(data_set(train), 0)
    assert [len(getattr(cut, p)) for p in PARTS] == [30, 10, 0]


def test_a_large_mixed_group_does_not_stop_every_part_from_having_each_label() -> None:
    big = [sample(i, "big", kind) for i, kind in enumerate([None, "crack"] * 40)]
    rest = [sample(100 + i, f"g{i}", kind) for i, kind in enumerate([None, "crack"] * 2)]
    for seed in range(10):
        cut = split(data_set([*big, *rest]), seed)
        assert all({s.label for s in getattr(cut, p)} == {"good", "bad"} for p in PARTS)


@pytest.mark.parametrize("label", ["good", "bad"])
def test_a_label_on_too_few_parts_is_refused_with_the_remedy(label: str) -> None:
    many, few = (None, "crack") if label == "bad" else ("crack", None)
    samples = [sample(i, f"g{i}", many) for i in range(20)]
    samples += [sample(100 + i, f"few{i % 2}", few) for i in range(10)]
    with pytest.raises(DataError, match=f"the {label} images show 2 different parts.*add"):
        split(data_set(samples), 0)


def test_a_set_without_a_good_image_is_refused() -> None:
    bad = [sample(i, f"g{i}", "crack") for i in range(5)]
    with pytest.raises(DataError, match="no image of a good part is left"):
        split(data_set(bad), 0)


def test_near_duplicates_that_swallow_a_third_are_refused_with_the_remedy() -> None:
    samples = [sample(i, "lump" if i < 15 else f"g{i}") for i in range(40)]
    with pytest.raises(DataError, match=r"15 of 40 images look like lump.*--group-by"):
        split(data_set(samples, "near-duplicates (similarity 0.60 or more)"), 0)
    assert split(data_set(samples, "the list groups.csv"), 0).train


def marked(part: Part, first: int, kinds: Sequence[str | None]) -> list[Sample]:
    return [sample(first + i, f"g{first + i}", kind, part) for i, kind in enumerate(kinds)]


def test_what_is_marked_to_tune_on_is_taken_as_it_is() -> None:
    train, tune = marked("train", 0, [None] * 6), marked("tune", 10, [None, "crack"])
    cut = split(data_set([*train, *tune]), 0)
    assert (cut.train, cut.tune, cut.test) == (tuple(train), tuple(reversed(tune)), ())


def test_a_group_in_two_marked_parts_is_named() -> None:
    train, tune = marked("train", 0, [None] * 6), marked("tune", 5, [None] * 3)
    with pytest.raises(DataError, match=r"marked train and tune: g5;.*--group-by"):
        split(data_set([*train, *tune]), 0)


@pytest.mark.parametrize("part", ["train", "tune"])
def test_a_marked_part_without_good_images_is_named(part: Part) -> None:
    other: Part = "tune" if part == "train" else "train"
    samples = [*marked(part, 0, ["crack"]), *marked(other, 5, [None] * 3)]
    with pytest.raises(DataError, match=f"marked {part}"):
        split(data_set(samples), 0)


def test_a_class_with_one_image_is_refused_in_plain_words() -> None:
    samples = [sample(i, f"g{i}") for i in range(9)] + [sample(9, "g9", "crack")]
    with pytest.raises(DataError, match="the bad images show one part, but each of the 3"):
        split(data_set(samples), 0)
