"""`data check` says everything that is wrong or doubtful, in one go, and raises nothing."""

import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from scipy.ndimage import gaussian_filter

from ssn_agent.frames.pixels import read_image
from ssn_trainer.data.check import Finding, Report, check
from ssn_trainer.data.show import show
from support.pictures import draw, draw_mask


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Eight good images and four bad ones, one with a mask; nothing is wrong."""
    root = tmp_path / "parts"
    for i in range(8):
        draw(root / "good" / f"{i}.png")
    for i in range(3):
        draw(root / "crack" / f"{i}.png", shape=(50, 60))
    draw(root / "stain" / "0.png")
    draw_mask(root / "crack" / "0_mask.png", marks=True, shape=(50, 60))
    return root


def found(report: Report, level: str, topic: str) -> list[Finding]:
    return [f for f in report.findings if (f.level, f.topic) == (level, topic)]


def only(report: Report, level: str, topic: str) -> Finding:
    (finding,) = report.findings
    assert (finding.level, finding.topic) == (level, topic)
    return finding


def copy_as_other_bytes(source: Path, target: Path) -> None:
    """Write the same pixels into another file."""
    assert cv2.imwrite(str(target), read_image(source), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert source.read_bytes() != target.read_bytes()


def photograph_twice(first: Path, second: Path, seed: int = 0) -> None:
    """Two photographs of one part: the same grain, other noise and light."""
    rng = np.random.default_rng(seed)
    grain = gaussian_filter(rng.normal(size=(200, 200)), 4)
    for path, light in ((first, 100), (second, 140)):
        image = light + 15 * grain / grain.std() + rng.normal(0, 2, grain.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))


def test_a_sound_folder_is_counted_and_nothing_is_found(sound: Path) -> None:
    report = check(sound)
    assert report.findings == ()
    assert (report.format, report.images, report.groups, report.masks) == ("folder", 12, 12, 1)
    assert report.labels == {"good": 8, "bad": 4}
    assert report.types == {"crack": 3, "stain": 1}
    assert report.parts == {"unmarked": 12}
    assert report.sizes == {"50x40": 9, "60x50": 3}
    assert "near-duplicates" in str(report.grouped_by)


def test_everything_is_told_in_one_go(sound: Path) -> None:
    draw(sound / "crack" / "9_mask.png")
    (sound / "good" / "x.gif").write_bytes(b"GIF89a")
    (sound / "good" / "0.png").write_bytes(b"no image")
    truncated = sound / "good" / "1.png"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    draw_mask(sound / "crack" / "1_mask.png", marks=False, shape=(50, 60))
    draw_mask(sound / "crack" / "2_mask.png", marks=True, shape=(9, 9))
    shutil.copy(sound / "good" / "3.png", sound / "stain" / "copy.png")
    shutil.copy(sound / "good" / "4.png", sound / "good" / "again.png")
    report = check(sound)
    assert len(found(report, "error", "layout")) == 2
    unreadable = [f.message for f in found(report, "error", "unreadable")]
    assert [m.split("good/")[1][:5] for m in unreadable] == ["0.png", "1.png"]
    assert [f.images for f in found(report, "error", "mask")] == [(("crack/2.png",),)]
    assert [f.images for f in found(report, "warning", "mask")] == [(("crack/1.png",),)]
    (conflict,) = found(report, "error", "conflict")
    assert conflict.images == (("good/3.png", "stain/copy.png"),)
    (duplicate,) = found(report, "warning", "duplicate")
    assert duplicate.images == (("good/4.png", "good/again.png"),)
    assert report.masks == 1
    assert report.images == 12
    assert report.errors == len(report.findings) - 2  # but for the duplicate and the blank mask


def test_the_same_pixels_under_other_labels_are_a_conflict_whatever_the_bytes(sound: Path) -> None:
    copy_as_other_bytes(sound / "good" / "3.png", sound / "stain" / "3.png")
    conflict = only(check(sound), "error", "conflict")
    assert conflict.images == (("good/3.png", "stain/3.png"),)


def test_the_same_pixels_in_two_files_are_a_duplicate_and_no_leak(sound: Path) -> None:
    copy_as_other_bytes(sound / "good" / "3.png", sound / "good" / "other.png")
    duplicate = only(check(sound, ".*"), "warning", "duplicate")
    assert duplicate.images == (("good/3.png", "good/other.png"),)


def test_photographs_of_one_part_in_two_groups_are_a_leak_to_be(sound: Path) -> None:
    photograph_twice(sound / "good" / "a.png", sound / "good" / "b.png")
    leak = only(check(sound, ".*"), "warning", "leak")
    assert leak.images == (("good/a.png", "good/b.png"),)
    assert "different groups" in leak.message
    assert check(sound).findings == ()


def test_photographs_of_one_part_under_both_labels_are_to_be_looked_at(sound: Path) -> None:
    photograph_twice(sound / "good" / "a.png", sound / "crack" / "b.png")
    conflict = only(check(sound), "warning", "conflict")
    assert conflict.images == (("crack/b.png", "good/a.png"),)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    root = tmp_path / "bottle"
    for i in range(8):
        draw(root / "train" / "good" / f"{i}.png")
    for i in range(3):
        draw(root / "test" / "good" / f"{i}.png")
        draw(root / "test" / "crack" / f"{i}.png")
    return root


def test_a_file_in_two_marked_parts_is_an_error(marked: Path) -> None:
    assert check(marked).findings == ()
    shutil.copy(marked / "train" / "good" / "0.png", marked / "test" / "good" / "9.png")
    leak = only(check(marked), "error", "leak")
    assert leak.images == (("test/good/9.png", "train/good/0.png"),)


def test_photographs_of_one_part_in_two_marked_parts_are_a_leak(marked: Path) -> None:
    photograph_twice(marked / "train" / "good" / "a.png", marked / "test" / "good" / "b.png")
    leak = only(check(marked), "warning", "leak")
    assert leak.images == (("test/good/b.png", "train/good/a.png"),)


def test_a_group_listed_for_train_and_test_is_an_error(marked: Path) -> None:
    names = [p.relative_to(marked).as_posix() for p in sorted(marked.rglob("*.png"))]
    rows = [f"{n},{n}" for n in names if n not in {"train/good/0.png", "test/good/0.png"}]
    rows += ["train/good/0.png,same", "test/good/0.png,same"]
    (marked / "groups.csv").write_text("\n".join(["image,group", *rows]))
    assert "same" in only(check(marked), "error", "grouping").message


def test_likeness_within_the_test_part_is_nobodys_fault(marked: Path) -> None:
    photograph_twice(marked / "test" / "good" / "a.png", marked / "test" / "good" / "b.png")
    assert check(marked).findings == ()


def test_a_test_part_alone_is_noted(marked: Path) -> None:
    shutil.rmtree(marked / "train")
    assert "judged" in only(check(marked), "warning", "note").message


def test_a_class_with_one_image_is_an_error(sound: Path) -> None:
    shutil.rmtree(sound / "crack")
    assert "the bad images show one part" in only(check(sound), "error", "split").message


@pytest.mark.parametrize("kept", [0, 1])
def test_next_to_no_images_are_an_error_and_no_crash(sound: Path, kept: int) -> None:
    for folder in ("crack", "stain"):
        shutil.rmtree(sound / folder)
    for i in range(kept, 8):
        (sound / "good" / f"{i}.png").unlink()
    report = check(sound)
    assert report.images == kept
    assert report.errors == 1


def test_a_grouping_that_does_not_fit_is_told_beside_the_rest(sound: Path) -> None:
    (sound / "good" / "0.png").write_bytes(b"no image")
    photograph_twice(sound / "good" / "a.png", sound / "good" / "b.png")
    report = check(sound, "nothing like it")
    assert [f.topic for f in report.findings] == ["unreadable", "grouping"]


def test_a_damaged_image_does_not_make_its_group_a_leak(sound: Path) -> None:
    names = [p.relative_to(sound).as_posix() for p in sorted(sound.rglob("*[0-9].png"))]
    rows = [f"{n},{'same' if n in {'good/0.png', 'good/1.png'} else n}" for n in names]
    (sound / "groups.csv").write_text("\n".join(["image,group", *rows]))
    (sound / "good" / "0.png").write_bytes(b"no image")
    only(check(sound), "error", "unreadable")


def test_images_of_16_bits_are_told_before_any_work(sound: Path) -> None:
    deep = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    assert cv2.imwrite(str(sound / "good" / "0.png"), deep)
    finding = only(check(sound), "error", "unreadable")
    assert "good/0.png: 16 bits a value, where 8 are taken" in finding.message


def test_a_layout_that_is_not_known_is_one_error(tmp_path: Path) -> None:
    report = check(tmp_path / "absent")
    assert "absent" in only(report, "error", "layout").message
    assert report.format is None


def test_rows_passed_over_are_noted(tmp_path: Path) -> None:
    rows = [f"{draw(tmp_path / f'{i}.png').name},{'good' if i else ''},{i}" for i in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,part_id", *rows]))
    report = check(tmp_path)
    assert "1 of 8" in only(report, "warning", "note").message
    assert report.unlabelled == 1


def test_disagreements_of_the_ledger_are_counted_and_named(tmp_path: Path) -> None:
    said = ["true", "true", *["false"] * 5, ""]
    rows = [f"{draw(tmp_path / f'{i}.png').name},good,{i},{text}" for i, text in enumerate(said)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,part_id,disagreement", *rows]))
    finding = only(check(tmp_path), "warning", "disagreement")
    assert "disagree on 2 images; the newest label counts: 0.png, 1.png" in finding.message
    assert finding.images == (("0.png",), ("1.png",))


def test_a_terminal_shows_counts_findings_and_how_many(sound: Path) -> None:
    for i in range(12):
        (sound / "good" / f"[x]{i}.png").write_bytes(b"no image")
        draw(sound / "stain" / f"big{i}.png", shape=(60 + i, 90))
    console = Console(file=io.StringIO(), width=200)
    show(check(sound), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "bad: 16, good: 8" in text
    assert "14 sizes, 50 to 90 wide, 40 to 71 high" in text
    assert "[x]0.png" in text
    assert "2 more (--json has all)" in text
    assert "12 errors, 0 warnings" in text
