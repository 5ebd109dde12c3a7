"""Folds test every image once, cut through no part, and say what leaks where a file says else."""

import json
from pathlib import Path

import cv2
import pytest

from ssn_agent.frames.pixels import read_image
from ssn_trainer.data.folds import make_folds, read_folds
from ssn_trainer.data.samples import DataSet, Sample, load
from ssn_trainer.errors import DataError
from support.pictures import draw, draw_mask

ITEMS = 10


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Ten items of three images, of each the last bad."""
    for item in range(ITEMS):
        for part in range(3):
            draw(tmp_path / "data" / f"kos{item:02}" / f"Part{part}.png")
        draw_mask(tmp_path / "data" / f"kos{item:02}" / "Part2_label.png", marks=True)
        # Recognised by the published name of its photographs.
        draw(tmp_path / "data" / f"kos{item:02}" / "Part3.jpg")
    return tmp_path / "data"


def folds_file(folder: Path, *folds: tuple[list[str], list[str]]) -> Path:
    content = {"folds": [{"train": train, "test": test} for train, test in folds], "note": "x"}
    (folder / "folds.json").write_text(json.dumps(content))
    return folder / "folds.json"


def kos(*numbers: int) -> list[str]:
    return [f"kos{n:02}" for n in numbers]


def groups(samples: tuple[Sample, ...]) -> set[str]:
    return {s.group for s in samples}


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_drawn_folds_test_each_image_once_and_cut_through_no_group(items: Path, count: int) -> None:
    dataset = load(items)
    folds = make_folds(dataset, count, seed=0)
    assert len(folds) == count
    tested = [s for fold in folds for s in fold.split.test]
    assert sorted(s.name for s in tested) == [s.name for s in dataset.samples]
    for fold in folds:
        parts = (fold.split.train, fold.split.tune, fold.split.test)
        assert sum(len(groups(p)) for p in parts) == ITEMS
        assert sum(len(p) for p in parts) == len(dataset.samples)
        assert all({s.label for s in p} == {"good", "bad"} for p in parts)
        assert not fold.leaks


def test_a_fifth_of_what_is_not_tested_tunes(items: Path) -> None:
    for fold in make_folds(load(items), 2, seed=1):
        assert (len(groups(fold.split.train)), len(groups(fold.split.tune))) == (4, 1)


def test_the_seed_draws_the_folds_and_the_order_of_the_samples_does_not(items: Path) -> None:
    dataset = load(items)
    backwards = DataSet(items, "ksdd", "", tuple(reversed(dataset.samples)))
    assert make_folds(dataset, 5, seed=0) == make_folds(backwards, 5, seed=0)
    assert make_folds(dataset, 5, seed=0) != make_folds(dataset, 5, seed=1)


def test_defect_types_are_spread_over_the_folds(tmp_path: Path) -> None:
    for kind, count in (("good", 20), ("crack", 6), ("stain", 6)):
        for i in range(count):
            draw(tmp_path / kind / f"{i}.png")
    for fold in make_folds(load(tmp_path, ".*"), 3, seed=0):
        kinds = [s.kind for s in fold.split.test]
        assert (kinds.count("crack"), kinds.count("stain")) == (2, 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_folds_are_drawn_however_uneven_the_groups(tmp_path: Path, seed: int) -> None:
    for i in range(13):
        draw(tmp_path / "good" / f"g{i}.png")
        draw(tmp_path / "crack" / f"c{'abcd'[max(i - 9, 0)]}_{i}.png")  # 10, 1, 1 and 1 of a part
    folds = make_folds(load(tmp_path, r"g\d+|c[abcd]_"), 2, seed)
    for fold in folds:
        parts = (fold.split.train, fold.split.tune, fold.split.test)
        assert all({s.label for s in p} == {"good", "bad"} for p in parts)


@pytest.mark.parametrize(
    ("bad", "count", "says"),
    [
        (4, 5, "the bad images show 4 different parts, so 2 to 4 folds are possible"),
        (2, 2, "the bad images show 2 different parts, so no fold is possible"),
        (3, 2, "the bad images show 3 different parts, so 3 folds are possible"),
        (4, 1, "into 1 folds"),
        (4, 0, "into 0 folds"),
    ],
)
def test_folds_that_cannot_be_stratified_say_how_many_are_possible(
    tmp_path: Path, bad: int, count: int, says: str
) -> None:
    for kind, number in (("good", 12), ("crack", bad)):
        for i in range(number):
            draw(tmp_path / kind / f"{i}.png")
    with pytest.raises(DataError, match=says):
        make_folds(load(tmp_path, ".*"), count, seed=0)


def test_a_file_of_folds_is_followed_by_group_and_by_name(items: Path) -> None:
    extra = "kos09/Part0.png"
    path = folds_file(items, (kos(0, 1, 2, 3, 4), [*kos(5, 6), extra]))
    (fold,) = read_folds(path, load(items))
    assert groups((*fold.split.train, *fold.split.tune)) == set(kos(0, 1, 2, 3, 4))
    assert groups(fold.split.tune) < set(kos(0, 1, 2, 3, 4))
    assert len(groups(fold.split.tune)) == 1
    tested = {s.name for s in fold.split.test}
    assert tested == {f"kos{n:02}/{p}" for n in (5, 6) for p in PARTS} | {extra}
    assert not fold.leaks


def test_an_image_that_names_its_group_is_listed_alone(tmp_path: Path) -> None:
    for i in range(8):
        draw(tmp_path / "good" / f"{i}.png", seed=i // 2)  # photographed twice
    dataset = load(tmp_path)
    assert groups(dataset.samples) == {f"good/{i}.png" for i in (0, 2, 4, 6)}
    train, test = [f"good/{i}.png" for i in (0, 2)], ["good/1.png", "good/6.png"]
    (fold,) = read_folds(folds_file(tmp_path, (train, test)), dataset)
    assert sorted(s.name for s in (*fold.split.train, *fold.split.tune)) == train
    assert [s.name for s in fold.split.test] == test
    assert [s.name for s in fold.leaks] == ["good/1.png"]


PARTS = ("Part0.png", "Part1.png", "Part2.png", "Part3.jpg")


def leaks(items: Path, train: list[str], test: list[str]) -> set[str]:
    (fold,) = read_folds(folds_file(items, (train, test)), load(items))
    return {s.name for s in fold.leaks}


def test_a_group_on_both_sides_leaks(items: Path) -> None:
    names = [f"kos00/{p}" for p in PARTS]
    found = leaks(items, [*kos(1, 2, 3), *names[:2]], [*names[2:], *kos(4)])
    assert found == set(names[2:])


def test_identical_files_on_both_sides_leak_and_their_group_with_them(items: Path) -> None:
    copy = items / "kos07" / "Part0.png"
    copy.write_bytes((items / "kos01" / "Part0.png").read_bytes())
    found = leaks(items, kos(0, 1, 2, 3), kos(7, 8))
    assert found == {f"kos07/{p}" for p in PARTS}


def test_identical_pixels_in_other_files_leak_as_identical_files_do(items: Path) -> None:
    pixels = read_image(items / "kos01" / "Part0.png")
    assert cv2.imwrite(str(items / "kos07" / "Part0.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert load(items).samples[28].digest != load(items).samples[4].digest
    assert leaks(items, kos(0, 1, 2, 3), kos(7, 8)) == {f"kos07/{p}" for p in PARTS}


def refused(items: Path, path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_folds(path, load(items))
    for word in words:
        assert word in str(caught.value)


def test_entries_that_are_not_there_are_named(items: Path) -> None:
    path = folds_file(items, (kos(0, 1, 2), kos(77)))
    refused(items, path, "folds.json", "1 entries", "kos77", "items' folders")


def test_a_train_part_that_cannot_be_cut_is_named_with_its_fold(items: Path) -> None:
    path = folds_file(items, (kos(0, 1, 2), kos(3)), (kos(0), kos(1)))
    refused(items, path, "fold 2", "show one part")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "folds"),
        (b'{"folds": []}', "folds"),
        (b'{"folds": [{"train": ["kos00"]}]}', "folds.0.test"),
        (b'{"folds": [{"train": ["kos00"], "test": []}]}', "folds.0.test"),
        (b'{"folds": [{"train": ["kos00"], "test": [3]}]}', "folds.0.test.0"),
        (b'{"folds": [{"train": "kos00", "test": ["kos01"]}]}', "folds.0.train"),
    ],
)
def test_a_file_that_holds_no_folds_says_where_and_what_is_wanted(
    items: Path, content: bytes, says: str
) -> None:
    (items / "folds.json").write_bytes(content)
    refused(items, items / "folds.json", "folds.json", says, '"train"')


def test_a_file_that_is_not_there_is_named(items: Path) -> None:
    refused(items, items / "absent.json", "absent.json", "cannot be read")
