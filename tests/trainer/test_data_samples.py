"""A labelled folder is read whole, or refused with the file and the remedy named."""

import hashlib
from pathlib import Path

import pytest

from ssn_trainer.data.samples import load, load_all, load_test
from ssn_trainer.errors import DataError, UsageError
from support.pictures import draw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "parts"
    for i in range(4):
        draw(root / "good" / f"{i}.jpg")
    for kind in ("crack", "stain"):
        for i in range(2):
            draw(root / kind / f"{i}.jpg")
    draw(root / "crack" / "0_mask.png")
    return root


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "bottle"
    for i in range(3):
        draw(root / "train" / "good" / f"{i:03}.png")
    draw(root / "test" / "good" / "000.png")
    draw(root / "test" / "broken_large" / "000.png")
    draw(root / "test" / "contamination" / "000.png")
    draw(root / "ground_truth" / "broken_large" / "000_mask.png")
    return root


def test_class_folders_give_labels_kinds_and_masks(folder: Path) -> None:
    data = load(folder)
    assert data.layout == "folder"
    by_name = {s.name: s for s in data.samples}
    assert list(by_name) == sorted(by_name)
    assert len(by_name) == 8
    assert (by_name["good/0.jpg"].label, by_name["good/0.jpg"].kind) == ("good", None)
    assert (by_name["crack/0.jpg"].label, by_name["crack/0.jpg"].kind) == ("bad", "crack")
    assert by_name["crack/0.jpg"].mask == folder / "crack" / "0_mask.png"
    assert by_name["crack/1.jpg"].mask is None
    assert {s.part for s in data.samples} == {None}


def test_digests_are_those_of_the_files(folder: Path) -> None:
    for sample in load(folder).samples:
        assert sample.digest == hashlib.sha256(sample.path.read_bytes()).hexdigest()


def test_a_marked_test_part_is_not_opened_for_learning(mvtec: Path) -> None:
    for path in (mvtec / "test").rglob("*.png"):
        path.write_bytes(b"no image at all")
    data = load(mvtec)
    assert data.layout == "mvtec"
    assert {s.part for s in data.samples} == {"train"}


def test_all_images_are_those_to_learn_from_and_those_marked_test(mvtec: Path) -> None:
    names = [s.name for s in (*load_test(mvtec).samples, *load(mvtec, ".*").samples)]
    assert [s.name for s in load_all(mvtec, ".*").samples] == names


def test_without_a_marked_test_part_every_image_is_judged(folder: Path) -> None:
    assert [s.name for s in load_test(folder).samples] == [s.name for s in load(folder).samples]


def test_images_to_judge_are_grouped_as_the_list_in_the_folder_says(folder: Path) -> None:
    rows = [f"{s.name},{s.name[-5]}" for s in load_test(folder).samples]
    assert load_test(folder).grouped_by == "each image by itself"
    (folder / "groups.csv").write_text("\n".join(["image,group", *rows]))
    judged = load_test(folder)
    assert judged.grouped_by == "the list groups.csv"
    assert [s.group for s in judged.samples] == [s.group for s in load(folder).samples]


def test_mvtec_folders_give_parts_kinds_and_masks(mvtec: Path) -> None:
    by_name = {s.name: s for s in load_test(mvtec).samples}
    assert {s.part for s in by_name.values()} == {"test"}
    broken = by_name["test/broken_large/000.png"]
    assert (broken.label, broken.kind, broken.part) == ("bad", "broken_large", "test")
    assert broken.mask == mvtec / "ground_truth" / "broken_large" / "000_mask.png"
    assert by_name["test/contamination/000.png"].mask is None
    assert by_name["test/good/000.png"].label == "good"


def test_mvtec_without_masks_is_read_too(mvtec: Path) -> None:
    (mvtec / "ground_truth" / "broken_large" / "000_mask.png").unlink()
    (mvtec / "ground_truth" / "broken_large").rmdir()
    (mvtec / "ground_truth").rmdir()
    assert all(s.mask is None for s in load_test(mvtec).samples)


def test_good_images_alone_are_a_data_set(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / "good" / "monday" / f"{i}.png")
    assert [s.name for s in load(tmp_path).samples] == [f"good/monday/{i}.png" for i in range(3)]


def test_hidden_files_and_notes_are_passed_over(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "good" / "._0.jpg").write_bytes(b"x")
    (folder / "good" / "notes.txt").write_text("ground on Monday")
    assert len(load(folder).samples) == 8


def refused(data: Path, *words: str, group_by: str | None = None) -> None:
    with pytest.raises(DataError) as caught:
        load(data, group_by)
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "absent", "no such folder")


def test_an_empty_folder_is_named_with_the_wanted_layout(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "good/")


def test_images_without_class_folders_are_told_where_to_go(tmp_path: Path) -> None:
    draw(tmp_path / "0.png")
    refused(tmp_path, "no class folders", "good/")


def test_a_folder_without_good_names_what_is_there(tmp_path: Path) -> None:
    draw(tmp_path / "ok" / "0.png")
    refused(tmp_path, "no folder good/", "ok")


@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("train/good", "test/bad")])
def test_an_empty_good_folder_is_named(tmp_path: Path, good: str, bad: str) -> None:
    (tmp_path / good).mkdir(parents=True)
    draw(tmp_path / bad / "0.png")
    refused(tmp_path, good, "no images of good parts")


def test_truncated_and_foreign_files_are_listed_up_to_five_and_counted(folder: Path) -> None:
    cut = folder / "good" / "0.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    for i in range(6):
        (folder / "stain" / f"not{i}.png").write_text("no image")
    refused(folder, "7 of 14", "good/0.jpg", "truncated", "not3.png", "and 2 more")
    with pytest.raises(DataError) as caught:
        load(folder, r".*")
    assert "not4.png" not in str(caught.value)


@pytest.mark.parametrize("group_by", [".*", "near-duplicates"])
def test_an_empty_file_is_named_whether_or_not_pixels_are_needed(
    folder: Path, group_by: str
) -> None:
    (folder / "crack" / "1.jpg").write_bytes(b"")
    refused(folder, "crack/1.jpg", group_by=group_by)


def test_a_file_of_an_unknown_kind_is_never_dropped_silently(folder: Path) -> None:
    (folder / "good" / "5.gif").write_bytes(b"GIF89a")
    refused(folder, "5.gif", ".png")


def test_two_images_of_one_name_that_would_share_a_mask_are_refused(folder: Path) -> None:
    draw(folder / "crack" / "0.png")
    refused(folder, "crack/0", "share one name")


def test_a_mask_without_an_image_is_refused(folder: Path) -> None:
    draw(folder / "crack" / "7_mask.png")
    refused(folder, "crack/7_mask.png", "without an image")


def test_a_truth_mask_without_an_image_is_refused(mvtec: Path) -> None:
    draw(mvtec / "ground_truth" / "broken_large" / "009_mask.png")
    refused(mvtec, "009_mask.png", "without an image")


def test_truth_masks_of_a_kind_without_images_are_refused(mvtec: Path) -> None:
    draw(mvtec / "ground_truth" / "broken_small" / "000_mask.png")
    refused(mvtec, "broken_small", "not there")


def test_two_masks_for_one_image_are_refused(mvtec: Path) -> None:
    draw(mvtec / "test" / "broken_large" / "000_mask.png")
    refused(mvtec, "000_mask.png", "second mask")


def test_a_mask_of_a_good_image_is_refused(folder: Path) -> None:
    draw(folder / "good" / "1_mask.png")
    refused(folder, "good/1_mask.png", "no defect")


def test_one_file_under_both_labels_is_a_conflict_that_names_both(folder: Path) -> None:
    (folder / "stain" / "copy.jpg").write_bytes((folder / "good" / "2.jpg").read_bytes())
    refused(folder, "good/2.jpg", "stain/copy.jpg", "both good and bad")
