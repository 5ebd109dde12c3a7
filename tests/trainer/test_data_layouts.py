"""Each layout is recognised and read as published, or refused with the file and the remedy."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import Sample, load, load_test
from ssn_trainer.data.tables import MAX_TABLE_BYTES
from ssn_trainer.errors import DataError
from support.pictures import draw, draw_mask


def by_name(samples: tuple[Sample, ...]) -> dict[str, Sample]:
    return {s.name: s for s in samples}


def refused(data: Path, *words: str, layout: Format = "auto") -> str:
    with pytest.raises(DataError) as caught:
        load(data, format=layout)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# KolektorSDD


@pytest.fixture
def ksdd(tmp_path: Path) -> Path:
    """Two items; of the first the original's masks for every image, of the second only one."""
    root = tmp_path / "KolektorSDD"
    for i in range(3):
        draw(root / "kos01" / f"Part{i}.jpg")
        draw_mask(root / "kos01" / f"Part{i}_label.bmp", marks=i == 2)
        draw(root / "kos02" / f"Part{i}.jpg")
    draw_mask(root / "kos02" / "Part0_label.png", marks=True)
    (root / "folds.json").write_text("{}")
    return root


def test_kolektor_masks_tell_which_images_are_bad_and_items_are_groups(ksdd: Path) -> None:
    data = load(ksdd)
    assert data.layout == "ksdd"
    found = by_name(data.samples)
    assert len(found) == 6
    bad = {name: (s.kind, s.mask) for name, s in found.items() if s.label == "bad"}
    assert bad == {
        "kos01/Part2.jpg": ("defect", ksdd / "kos01" / "Part2_label.bmp"),
        "kos02/Part0.jpg": ("defect", ksdd / "kos02" / "Part0_label.png"),
    }
    assert all(s.mask is None and s.kind is None for s in found.values() if s.label == "good")
    assert all(s.group == name.split("/")[0] for name, s in found.items())
    assert "item" in data.grouped_by


def test_a_list_of_groups_in_the_folder_stands_above_the_layouts_own(ksdd: Path) -> None:
    rows = [f"{s.name},{s.name[-5]}" for s in load(ksdd).samples]
    (ksdd / "groups.csv").write_text("\n".join(["image,group", *rows]))
    assert {s.group for s in load(ksdd).samples} == {"0", "1", "2"}


def test_identical_files_join_items_but_their_own_names_are_kept(ksdd: Path) -> None:
    shutil.copy(ksdd / "kos01" / "Part0.jpg", ksdd / "kos02" / "Part9.jpg")
    samples = load(ksdd).samples
    assert {s.group for s in samples} == {"kos01"}
    assert {s.own_group for s in samples} == {"kos01", "kos02"}


def test_a_kolektor_mask_of_16_bits_tells_a_bad_image_by_its_faintest_value(ksdd: Path) -> None:
    mask = np.zeros((40, 50), np.uint16)
    mask[5, 5] = 1
    assert cv2.imwrite(str(ksdd / "kos02" / "Part1_label.png"), mask)
    assert by_name(load(ksdd).samples)["kos02/Part1.jpg"].label == "bad"


def test_a_damaged_mask_is_not_taken_for_a_good_image(ksdd: Path) -> None:
    (ksdd / "kos01" / "Part2_label.bmp").write_bytes(b"BM")
    refused(ksdd, "1 of 6", "Part2_label.bmp", "truncated")


def test_a_kolektor_mask_without_its_image_is_named(ksdd: Path) -> None:
    (ksdd / "kos02" / "Part0.jpg").unlink()
    refused(ksdd, "kos02/Part0_label.png", "without an image")


def test_two_masks_of_one_part_are_named(ksdd: Path) -> None:
    draw_mask(ksdd / "kos01" / "Part2_label.png", marks=False)
    refused(ksdd, "Part2_label.png", "second mask")


# KolektorSDD2


@pytest.fixture
def ksdd2(tmp_path: Path) -> Path:
    root = tmp_path / "KolektorSDD2"
    for part, first in (("train", 10000), ("test", 20000)):
        for i in range(4):
            draw(root / part / f"{first + i}.png")
            draw_mask(root / part / f"{first + i}_GT.png", marks=i == 3)
    return root


def test_the_second_kolektor_set_marks_its_parts_and_masks_tell_labels(ksdd2: Path) -> None:
    data = load(ksdd2)
    assert data.layout == "ksdd2"
    assert [s.name for s in data.samples] == [f"train/1000{i}.png" for i in range(4)]
    assert [s.label for s in data.samples] == ["good", "good", "good", "bad"]
    assert {s.part for s in data.samples} == {"train"}
    judged = by_name(load_test(ksdd2).samples)
    assert set(judged) == {f"test/2000{i}.png" for i in range(4)}
    bad = judged["test/20003.png"]
    assert (bad.kind, bad.mask) == ("defect", ksdd2 / "test" / "20003_GT.png")


def test_its_test_part_is_not_opened_for_learning(ksdd2: Path) -> None:
    for path in (ksdd2 / "test").iterdir():
        path.write_bytes(b"no image")
    assert len(load(ksdd2).samples) == 4


def test_an_image_without_its_truth_is_not_guessed_good(ksdd2: Path) -> None:
    (ksdd2 / "train" / "10001_GT.png").unlink()
    refused(ksdd2, "10001.png", "_GT.png")


def test_the_stray_copies_of_the_published_archive_are_passed_over_and_said(ksdd2: Path) -> None:
    for end in ("", "_GT"):
        shutil.copy(ksdd2 / "train" / f"10003{end}.png", ksdd2 / "train" / f"10003{end} (copy).png")
    data = load(ksdd2)
    assert len(data.samples) == 4
    assert "10003_GT (copy).png" in data.notes[0]


# Files outside of the folders that a layout walks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("good/0.png", "good/1.png", "crack/0.png"):
        draw(tmp_path / "parts" / name)
    return tmp_path / "parts"


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    for name in ("train/good/0.png", "test/good/1.png", "test/crack/0.png"):
        draw(tmp_path / "bottle" / name)
    draw_mask(tmp_path / "bottle" / "ground_truth" / "crack" / "0_mask.png", marks=True)
    return tmp_path / "bottle"


@pytest.mark.parametrize(
    ("data", "stray"),
    [
        ("folder", "stray.png"),
        ("folder", "stray.exe"),
        ("mvtec", "stray.png"),
        ("mvtec", "train/stray.png"),
        ("mvtec", "test/stray.png"),
        ("mvtec", "ground_truth/stray.png"),
        ("mvtec", "valid/good/stray.png"),
        ("ksdd", "stray.jpg"),
        ("ksdd2", "stray.png"),
        ("ksdd2", "valid/deep/stray.png"),
    ],
)
def test_a_file_where_the_layout_has_none_is_named(
    data: str, stray: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(data)
    draw(root / "stray.png").replace(root / "moved")
    (root / stray).parent.mkdir(parents=True, exist_ok=True)
    (root / "moved").replace(root / stray)
    refused(root, "1 files where the layout has none", stray)


def test_many_files_where_the_layout_has_none_are_counted_and_five_named(mvtec: Path) -> None:
    for i in range(7):
        draw(mvtec / "train" / f"stray{i}.png")
    said = refused(mvtec, "7 files", "stray4.png and 2 more")
    assert "stray5" not in said


@pytest.mark.parametrize("data", ["folder", "mvtec", "ksdd", "ksdd2"])
def test_notes_hidden_files_and_what_the_trainer_writes_may_lie_anywhere(
    data: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(data)
    names = ("README", "license.pdf", "readme.txt", ".hidden.png", ".cache/0.png", "folds.json")
    for name in (*names, "parts-1.ssn", "parts.checkpoint.safetensors", "report.html"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    assert load(root, ".*").samples


# The ledger's export


LEDGER_COLUMNS = "image,label,part_id,product,camera,time,score,model,defect_type,mask,labeller"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    root = tmp_path / "export"
    for i in range(6):
        draw(root / "images" / f"{i}.png")
    draw_mask(root / "masks" / "4.png", marks=True)
    rows = [
        "images/0.png,good,p1,,left,2026-01-01T00:00:00Z,0.1,m-1,,,anna",
        "images/1.png,good,p1,,left,2026-01-01T00:00:01Z,0.1,m-1,,,anna",
        "images/2.png,good,,,left,2026-01-01T00:00:02Z,0.2,m-1,,,anna",
        "images/3.png,bad,p2,,left,2026-01-01T00:00:03Z,0.9,m-1,,,anna",
        "images/4.png,bad,p3,,left,2026-01-01T00:00:04Z,0.9,m-1,scratch,masks/4.png,anna",
        "images/5.png,,p4,,left,2026-01-01T00:00:05Z,0.4,m-1,,,",
    ]
    (root / "labels.csv").write_text("\n".join([LEDGER_COLUMNS, *rows]) + "\n")
    return root


def test_the_ledgers_export_gives_labels_types_masks_and_parts(ledger: Path) -> None:
    data = load(ledger)
    assert data.layout == "ledger"
    told = [(s.label, s.kind, s.group) for s in data.samples]
    assert told == [
        ("good", None, "p1"),
        ("good", None, "p1"),
        ("good", None, "images/2.png"),
        ("bad", "defect", "p2"),
        ("bad", "scratch", "p3"),
    ]
    assert by_name(data.samples)["images/4.png"].mask == ledger / "masks" / "4.png"
    assert data.grouped_by.startswith("part_id, those without one (1 of 5) by near-duplicates")


def test_a_part_of_the_ledger_is_its_id_whatever_product_and_camera(ledger: Path) -> None:
    rows = [f"images/{i}.png,good,p1,{'lid' if i else ''},camera-{i}" for i in range(6)]
    (ledger / "labels.csv").write_text("\n".join(["image,label,part_id,product,camera", *rows]))
    data = load(ledger)
    assert {s.group for s in data.samples} == {"p1"}
    assert data.grouped_by == "part_id"


def test_an_export_as_the_agent_writes_it_is_read_and_what_it_names_stays_inside(
    tmp_path: Path,
) -> None:
    epoch = "0b6c1d1e-8f0a-4b6e-9a53-5f0d4c1b2a39"
    name = f"images/left/{epoch}-1042.png"
    draw(tmp_path / name)
    (tmp_path / "labels.csv").write_text(
        "image,part_id,product,camera,epoch,sequence,triggered_at,score,verdict,model,label,"
        "defect_type,labeller,labelled_at,disagreement\n"
        f"{name},,,left,{epoch},1042,2026-05-04T06:00:00Z,0.2,PASS,m-1,good,,anna,"
        "2026-05-04T07:00:00Z,\n"
    )
    assert [(s.name, s.label) for s in load(tmp_path).samples] == [(name, "good")]
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("images/left/", "../left/"))
    refused(tmp_path, "line 2", "leads out of")


def test_a_table_that_is_too_large_is_not_read(ledger: Path) -> None:
    with (ledger / "labels.csv").open("r+b") as file:
        file.truncate(MAX_TABLE_BYTES + 1)
    refused(ledger, "labels.csv", str(MAX_TABLE_BYTES), layout="ledger")


def test_images_without_a_label_are_passed_over_and_counted(ledger: Path) -> None:
    data = load(ledger)
    assert data.notes == ("1 of 6 images have no label and are passed over",)
    assert "images/5.png" not in by_name(data.samples)


def test_three_columns_are_enough_and_others_may_come(ledger: Path) -> None:
    rows = ["image,label,part_id,shift", "images/0.png,good,1,a", "images/1.png,bad,2,b"]
    (ledger / "labels.csv").write_text("\n".join(rows))
    assert [s.label for s in load(ledger).samples] == ["good", "bad"]


def test_a_label_that_the_ledger_does_not_know_is_named_with_its_line(ledger: Path) -> None:
    text = (ledger / "labels.csv").read_text()
    (ledger / "labels.csv").write_text(text.replace("3.png,bad", "3.png,scratch"))
    refused(ledger, "line 5", "'scratch'")


def test_an_export_without_a_needed_column_says_so(ledger: Path) -> None:
    (ledger / "labels.csv").write_text("image,label\nimages/0.png,good\n")
    refused(ledger, "image,label,part_id", layout="ledger")
    refused(ledger, "labels.csv with the columns image,label")


def test_an_export_without_any_label_has_nothing_to_learn_from(ledger: Path) -> None:
    (ledger / "labels.csv").write_text("image,label,part_id\nimages/0.png,,1\n")
    refused(ledger, "no images of good parts")


# One CSV file


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four good and four bad images beside `all.csv`, which names groups and splits."""
    rows = []
    for i in range(8):
        label = "good" if i < 4 else "bad" if i < 6 else "deep scratch"
        split = ("train", "tune", "test", "train")[i % 4]
        draw(tmp_path / "images" / f"{i}.png")
        mask = "masks/6.png" if i == 6 else ""
        rows.append(f"images/{i}.png,{label},{mask},g{i},{split}")
    draw_mask(tmp_path / "masks" / "6.png", marks=True)
    return write(tmp_path, "image,label,mask,group,split", *rows)


def write(folder: Path, *lines: str) -> Path:
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
    return folder / "all.csv"


def change(table: Path, old: str, new: str) -> Path:
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    return table


def test_a_table_gives_labels_types_masks_groups_and_splits(table: Path) -> None:
    data = load(table)
    assert (data.layout, data.root) == ("csv", table.parent)
    told = {s.name[7]: (s.label, s.kind, s.group, s.part) for s in data.samples}
    assert told == {
        "0": ("good", None, "g0", "train"),
        "1": ("good", None, "g1", "tune"),
        "3": ("good", None, "g3", "train"),
        "4": ("bad", "defect", "g4", "train"),
        "5": ("bad", "defect", "g5", "tune"),
        "7": ("bad", "deep scratch", "g7", "train"),
    }
    judged = by_name(load_test(table).samples)
    assert set(judged) == {"images/2.png", "images/6.png"}
    assert judged["images/6.png"].mask == table.parent / "masks" / "6.png"
    assert judged["images/6.png"].group == "g6"


def test_two_columns_are_enough(table: Path) -> None:
    write(table.parent, "label,image", *(f"good,images/{i}.png" for i in range(8)))
    data = load(table)
    assert len(data.samples) == 8
    assert "near-duplicates" in data.grouped_by
    assert {s.part for s in data.samples} == {None}


def test_spreadsheets_byte_order_marks_line_ends_and_spaces_are_taken(table: Path) -> None:
    text = table.read_text().replace("\n", "\r\n").replace(",g", ", g")
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load(table).samples) == 6


def test_what_has_no_split_is_trained_on_where_others_have_one(table: Path) -> None:
    data = load(change(table, "g0,train", "g0,"))
    assert by_name(data.samples)["images/0.png"].part == "train"
    assert "1 of 8" in data.notes[0]


def test_what_has_no_group_is_its_own_where_others_have_one(table: Path) -> None:
    data = load(change(table, ",g0,", ",,"))
    assert by_name(data.samples)["images/0.png"].group == "images/0.png"


def test_a_list_of_groups_beside_a_table_is_not_taken_unasked(table: Path) -> None:
    (table.parent / "groups.csv").write_text("image,group\nimages/0.png,g\n")
    assert load(table).grouped_by == "the column group"


def test_a_group_in_two_splits_is_named(table: Path) -> None:
    refused(change(table, ",g2,", ",g3,"), "group g3 is in test and train")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("image,label,mask", "picture,label,mask", "must be image,label"),
        ("group,split", "grp,split", "not known: grp"),
        ("mask,group", "mask,mask", "twice"),
        ("0.png,good", "0.png,ok", "line 2: the label 'ok'"),
        ("0.png,good", "0.png,Good", "line 2: the label 'Good'"),
        ("0.png,good", "0.png,0", "line 2: the label '0'"),
        ("0.png,good", "0.png,", "line 2: the label ''"),
        ("g1,tune", "g1,val", "line 3: the split 'val'"),
        ("images/0.png", "../images/0.png", "line 2: the image ../images/0.png leads out"),
        ("images/0.png", "/etc/0.png", "line 2: the image /etc/0.png leads out"),
        ("images/0.png", "images/../../x/0.png", "leads out"),
        ("images/0.png", "images/9.png", "images/9.png is not there"),
        ("images/0.png", "images", "images is not an image by its name"),
        ("images/0.png", "x" * 5000 + ".png", "is not there"),
        ("images/0.png", "images/\0.png", "all.csv"),
        ("images/0.png", "", "line 2: no image"),
        ("images/0.png", "images/1.png", "more than once: images/1.png"),
        ("images/0.png", "images/./1.png", "more than once: images/1.png"),
        ("masks/6.png", "masks/7.png", "line 8: the mask masks/7.png is not there"),
        ("0.png,good,", "0.png,good,masks/6.png", "line 2: a mask for a good image"),
        ("g0,train", "g0,train,x", "line 2: 6 fields for 5 columns"),
        ("0.png,good", '0.png,"good', "cannot be read"),
        (",", ";", "must be image,label"),
    ],
)
def test_rubbish_in_a_table_is_named_with_its_line(
    table: Path, old: str, new: str, says: str
) -> None:
    refused(change(table, old, new), "all.csv", says)


@pytest.mark.parametrize("content", [b"", b"\xff\xfei\x00m\x00", b"\x00" * 50, b"\x89PNG\r\n"])
def test_a_file_that_is_no_table_says_what_is_wanted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "all.csv").write_bytes(content)
    refused(tmp_path / "all.csv", "all.csv", "image,label")


def test_faults_of_a_table_are_told_together(table: Path) -> None:
    change(table, "0.png,good", "0.png,ok")
    message = refused(change(table, "g1,tune", "g1,val"))
    assert "line 2" in message
    assert "line 3" in message


# Which layout


def test_a_layout_may_be_named(ksdd: Path, table: Path) -> None:
    draw(ksdd / "good" / "0.jpg")
    refused(ksdd, "folder", "ksdd", "more than one layout", "--format")
    assert load(ksdd, format="folder").layout == "folder"
    refused(table, "is a file", "ksdd2", layout="ksdd2")
    refused(table.parent, "is a folder", "csv", layout="csv")


def test_a_folder_of_no_known_layout_says_what_it_holds_and_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path, "notes.txt", "good/", "kosNN", "labels.csv", "train/good")
    (tmp_path / "Good").mkdir()
    refused(tmp_path, "there is: Good")


def test_a_file_that_is_no_csv_is_named(tmp_path: Path) -> None:
    refused(draw(tmp_path / "0.png"), "0.png", "neither a folder nor a CSV file")


def test_test_folders_alone_can_be_judged(tmp_path: Path) -> None:
    draw(tmp_path / "test" / "good" / "0.png")
    draw(tmp_path / "test" / "crack" / "0.png")
    assert len(load_test(tmp_path).samples) == 2
    refused(tmp_path, "no images of good parts", "train/good")
