"""Images of one part are told by a list, by the name, or by the picture itself."""

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ssn_agent.frames.pixels import read_image
from ssn_trainer.data.samples import load, load_test
from ssn_trainer.errors import DataError


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def grain(seed: int) -> NDArray[np.float64]:
    """The surface of one part, [200, 200] around 0."""
    rng = np.random.default_rng(seed)
    fine: NDArray[np.float64] = gaussian_filter(rng.normal(size=(200, 200)), 4)
    return fine / float(fine.std())


def photograph(surface: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One photograph of a surface: its own crop, light, contrast and noise."""
    top, left = rng.integers(0, 9, 2)
    part = surface[top : top + 190, left : left + 190]
    light = np.linspace(0, rng.uniform(-40, 40), 190)[None, :]
    image = rng.uniform(80, 150) + rng.uniform(8, 20) * part + light
    return np.clip(image + rng.normal(0, 3, part.shape), 0, 255).astype(np.uint8)


def groups_of(data: Path, group_by: str | None = None) -> list[set[str]]:
    held = defaultdict[str, set[str]](set)
    for sample in load(data, group_by).samples:
        held[sample.group].add(sample.name)
    return sorted(held.values(), key=min)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Six unlike images named after three parts."""
    for part in "abc":
        for view in (1, 2):
            image = np.random.default_rng(ord(part) * view).integers(0, 256, (40, 40), np.uint8)
            write(tmp_path / "good" / f"{part}_{view}.png", image)
    return tmp_path


PAIRS = [{f"good/{p}_1.png", f"good/{p}_2.png"} for p in "abc"]
SINGLES = [{name} for pair in PAIRS for name in sorted(pair)]


def listing(path: Path, rows: list[str]) -> str:
    path.write_text("\n".join(["image,group", *rows]) + "\n")
    return str(path)


def all_rows() -> list[str]:
    return [f"good/{p}_{v}.png,{p}" for p in "abc" for v in (1, 2)]


def test_a_list_names_the_groups(small: Path, tmp_path: Path) -> None:
    data = load(small, listing(tmp_path / "mine.csv", all_rows()))
    assert "mine.csv" in data.grouped_by
    assert groups_of(small, str(tmp_path / "mine.csv")) == PAIRS


def test_the_list_in_the_folder_is_taken_unasked(small: Path) -> None:
    listing(small / "groups.csv", all_rows())
    assert "groups.csv" in load(small).grouped_by
    assert groups_of(small) == PAIRS


def test_the_first_group_of_an_expression_names_the_group(small: Path) -> None:
    assert groups_of(small, r"good/(\w)_") == PAIRS


def test_without_a_group_the_whole_match_names_it(small: Path) -> None:
    assert groups_of(small, r"/._") == PAIRS
    assert groups_of(small, ".*") == SINGLES


def refused(data: Path, group_by: str | None, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(data, group_by)
    for word in words:
        assert word in str(caught.value)


def test_images_that_do_not_match_are_named(small: Path) -> None:
    refused(small, r"good/([ab])_", "2 of 6", "good/c_1.png")


def test_a_broken_expression_is_told_from_a_list(small: Path) -> None:
    refused(small, "good/(", "neither a CSV file nor a regular expression")


def test_an_unlisted_image_is_named(small: Path, tmp_path: Path) -> None:
    refused(small, listing(tmp_path / "g.csv", all_rows()[1:]), "not listed", "good/a_1.png")


def test_a_listed_image_that_is_not_there_is_named(small: Path, tmp_path: Path) -> None:
    rows = [*all_rows(), "good/z_1.png,z"]
    refused(small, listing(tmp_path / "g.csv", rows), "not there", "good/z_1.png")


def test_an_image_in_two_groups_is_named(small: Path, tmp_path: Path) -> None:
    rows = [*all_rows(), "good/a_1.png,b"]
    refused(small, listing(tmp_path / "g.csv", rows), "two groups", "good/a_1.png")


def test_a_line_without_a_group_is_refused(small: Path, tmp_path: Path) -> None:
    refused(small, listing(tmp_path / "g.csv", [*all_rows(), "good/a_1.png"]), "without")


@pytest.mark.parametrize("content", [b"", b"name;part\na;b\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_such_list_says_what_is_wanted(
    small: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "g.csv").write_bytes(content)
    refused(small, str(tmp_path / "g.csv"), "g.csv", "image,group")


def test_a_list_that_is_not_there_is_named(small: Path, tmp_path: Path) -> None:
    refused(small, str(tmp_path / "absent.csv"), "absent.csv", "cannot be read")


@pytest.mark.parametrize("group_by", [".*", "near-duplicates"])
def test_identical_files_share_a_group_whatever_the_list_says(small: Path, group_by: str) -> None:
    (small / "good" / "d_1.png").write_bytes((small / "good" / "a_1.png").read_bytes())
    assert {"good/a_1.png", "good/d_1.png"} in groups_of(small, group_by)


@pytest.mark.parametrize("group_by", [".*", "near-duplicates"])
def test_one_picture_in_files_of_two_kinds_is_one_part(small: Path, group_by: str) -> None:
    write(small / "good" / "d_1.bmp", read_image(small / "good" / "a_1.png"))
    assert {"good/a_1.png", "good/d_1.bmp"} in groups_of(small, group_by)


def test_photographs_of_one_part_are_found_despite_crop_light_and_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    wanted = []
    for part in range(20):
        surface = grain(part)
        kind = "bad" if part % 4 == 0 else "good"
        names = [f"{kind}/{part:02}_{view}.png" for view in range(3 if part < 14 else 1)]
        for name in names:
            write(tmp_path / name, photograph(surface, rng))
        wanted.append(set(names))
    assert "near-duplicates" in load(tmp_path).grouped_by
    assert groups_of(tmp_path) == sorted(wanted, key=min)


def test_pictures_of_the_ledger_without_a_part_id_join_the_part_that_they_look_like(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)
    rows, wanted = ["image,label,part_id"], []
    for part in range(12):
        surface = grain(part)
        names = [f"{part:02}_{view}.png" for view in range(3)]
        for view, name in enumerate(names):
            write(tmp_path / name, photograph(surface, rng))
            is_told = part >= 6 or (part >= 3 and view == 0)  # all, the first one, or none
            rows.append(f"{name},good,{f'id-{part}' if is_told else ''}")
        wanted.append(set(names))
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert groups_of(tmp_path) == wanted
    assert "those without one (15 of 36) by near-duplicates" in load(tmp_path).grouped_by
    judged = {s.group for s in load_test(tmp_path).samples}
    assert len(judged) == 15 + 9  # no looks where images are judged: each is its own


def test_part_ids_of_the_ledger_keep_apart_what_looks_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = ["image,label,part_id"]
    for part in range(12):
        name = f"{part:02}.png"
        write(tmp_path / name, photograph(grain(part // 2), rng))
        rows.append(f"{name},good,id-{part}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert groups_of(tmp_path) == [{f"{part:02}.png"} for part in range(12)]


def test_different_parts_in_one_pose_stay_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    ring = np.hypot(*np.mgrid[-100:100, -100:100])
    for part in range(30):
        shape = 90.0 + 100 * ((ring > 50) & (ring < 80)) + 6 * grain(100 + part)
        noisy = np.clip(shape + rng.normal(0, 3, shape.shape), 0, 255)
        write(tmp_path / "good" / f"{part:02}.png", noisy.astype(np.uint8))
    assert all(len(group) == 1 for group in groups_of(tmp_path))


def test_like_parts_at_random_angles_are_not_lumped_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for part in range(120):
        image = np.full((200, 200), 200, np.uint8)
        angle = rng.uniform(0, 2 * np.pi)
        end = 75 * np.array([np.cos(angle), np.sin(angle)])
        centre = 100 + rng.uniform(-8, 8, 2)
        cv2.line(image, tuple(map(int, centre - end)), tuple(map(int, centre + end)), 60, 12)
        cv2.circle(image, tuple(map(int, centre + end)), 16, 40, -1)
        noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        write(tmp_path / "good" / f"{part:03}.png", noisy)
    sizes = [len(group) for group in groups_of(tmp_path)]
    assert max(sizes) <= 12
    assert len(sizes) >= 60


def test_blank_images_are_not_taken_for_one_part(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / "good" / f"{i}.png", np.full((40, 40), 100 + i, np.uint8))
    assert all(len(group) == 1 for group in groups_of(tmp_path))
