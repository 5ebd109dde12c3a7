"""A folder of labelled images to samples.

Two layouts are read:

    folder    good/NAME.jpg  <defect type>/NAME.jpg  <defect type>/NAME_mask.png
    mvtec     train/good/NAME.png  test/good/  test/<defect type>/
              ground_truth/<defect type>/NAME_mask.png

In both a mask may lie beside its image, class folders may have folders inside, and hidden files
are passed over. What the layout does not foresee is an error, never dropped.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import IMAGE_SUFFIXES, check_complete, decode_image
from ssn_trainer.data.duplicates import Thumbnail, thumbnail
from ssn_trainer.data.groups import NEAR_DUPLICATES, assign_groups
from ssn_trainer.errors import DataError

GROUPS_FILE = "groups.csv"
MASK_END = "_mask.png"
_SIDE_FILES = frozenset({".csv", ".db", ".ini", ".json", ".md", ".txt", ".xml", ".yaml", ".yml"})


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    path: Path
    name: str
    """POSIX path relative to the data folder."""
    label: Literal["good", "bad"]
    kind: str | None
    """The defect type, by its folder; None for good images."""
    mask: Path | None
    group: str
    """Images of one part share it."""
    part: Literal["train", "test"] | None
    """As the layout marks it; None where it marks none."""
    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""


@dataclass(frozen=True)
class DataSet:
    """The labelled images of a folder, ordered by name."""

    root: Path
    layout: Literal["folder", "mvtec"]
    grouped_by: str
    """How images of one part were told, in words."""
    samples: tuple[Sample, ...]


def load(data: Path, group_by: str | None = None) -> DataSet:
    """Read the images of `data` that a model may learn from: all, but what is marked as test.

    A marked test part is not opened, only its names are seen.

    `group_by` names a CSV of `image,group`, a regular expression on the image's name (its first
    group, or else the whole match) or `near-duplicates`; None takes `groups.csv` in the folder, or
    near-duplicates where there is none. Files that are identical byte for byte always share a
    group. Every image file is read once; pixels are decoded for near-duplicates alone.

    Raises DataError, naming files and the remedy, for anything that does not hold together.
    """
    layout, everything = _find(data)
    found = [s for s in everything if s.part != "test"]
    if not any(s.label == "good" for s in found):
        good = data / "train" / "good" if layout == "mvtec" else data / "good"
        msg = f"{good}: no images of good parts; put them there"
        raise DataError(msg)
    if group_by is None and (data / GROUPS_FILE).is_file():
        group_by = str(data / GROUPS_FILE)
    by_thumbnail = group_by in {None, NEAR_DUPLICATES}
    samples, thumbnails = _read_all(found, by_thumbnail=by_thumbnail)
    _refuse_conflicts(samples)
    names, digests = [s.name for s in samples], [s.digest for s in samples]
    unread = frozenset(s.name for s in everything if s.part == "test")
    groups, words = assign_groups(names, digests, group_by, thumbnails, unread)
    grouped = tuple(replace(s, group=g) for s, g in zip(samples, groups, strict=True))
    return DataSet(data, layout, words, grouped)


def load_test(data: Path) -> tuple[Sample, ...]:
    """Read the images of `data` that a model is judged on: those marked as test, or else all.

    Groups are not told: each image is its own. Raises DataError, as `load` does.
    """
    _, everything = _find(data)
    marked = [s for s in everything if s.part == "test"]
    samples, _ = _read_all(marked or everything, by_thumbnail=False)
    _refuse_conflicts(samples)
    return tuple(replace(s, group=s.name) for s in samples)


def _find(data: Path) -> tuple[Literal["folder", "mvtec"], list[Sample]]:
    """List the images by layout, ordered by name; none is opened."""
    if not data.is_dir():
        msg = f"{data}: no such folder; give the folder that holds the images"
        raise DataError(msg)
    layout: Literal["folder", "mvtec"] = "mvtec" if (data / "train" / "good").is_dir() else "folder"
    found = _mvtec(data) if layout == "mvtec" else _folder(data)
    return layout, sorted(found, key=lambda s: s.name)


def _folder(data: Path) -> Iterator[Sample]:
    """Class folders: `good` and, beside it, one folder a defect type."""
    folders = _folders(data)
    if not folders:
        what = "image files but no class folders" if any(_images(data)[0]) else "nothing"
        msg = (
            f"{data}: holds {what}; wanted are good/ with the good parts and a folder for each "
            "defect type, or MVTec's train/good and test/"
        )
        raise DataError(msg)
    if "good" not in (f.name for f in folders):
        have = ", ".join(f.name for f in folders[:5])
        msg = f"{data}: no folder good/ (there is: {have}); put the images of good parts there"
        raise DataError(msg)
    for folder in folders:
        yield from _class_folder(data, folder, None, None)


def _mvtec(data: Path) -> Iterator[Sample]:
    """MVTec AD: `train/good`, `test/<type>`, masks in `ground_truth/<type>`."""
    truth = data / "ground_truth"
    seen: set[str] = set()
    for part in ("train", "test"):
        for folder in _folders(data / part):
            masks = truth / folder.name if part == "test" else None
            seen.update([folder.name] if part == "test" else [])
            yield from _class_folder(data, folder, part, masks)
    for folder in _folders(truth):
        if folder.name not in seen:
            msg = f"{folder}: masks for images that are not there; add test/{folder.name}/"
            raise DataError(msg)


def _class_folder(
    data: Path, folder: Path, part: Literal["train", "test"] | None, masks: Path | None
) -> Iterator[Sample]:
    """Samples of one class folder; `masks` is a second place where its masks may lie."""
    images, beside = _images(folder)
    stems = Counter(p.with_suffix("") for p in images)
    doubled = [str(stem.relative_to(data)) for stem, n in stems.items() if n > 1]
    if doubled:
        msg = f"{data}: several images share one name and mask: {_some(doubled)}; rename them"
        raise DataError(msg)
    by_stem = {m.parent / m.name.removesuffix(MASK_END): m for m in beside}
    if masks is not None and masks.is_dir():
        strangers, found = _images(masks)
        if strangers:
            msg = f"{masks}: not named NAME{MASK_END}: {_some(map(str, strangers))}; rename them"
            raise DataError(msg)
        for mask in found:
            stem = folder / mask.relative_to(masks).parent / mask.name.removesuffix(MASK_END)
            if stem in by_stem:
                msg = f"{mask}: a second mask beside {by_stem[stem]}; remove one of the two"
                raise DataError(msg)
            by_stem[stem] = mask
    orphans = [str(m.relative_to(data)) for stem, m in by_stem.items() if stem not in stems]
    if orphans:
        msg = f"{data}: masks without an image: {_some(orphans)}; add the images or remove them"
        raise DataError(msg)
    good = folder.name == "good"
    if good and by_stem:
        msg = (
            f"{data}: masks for good images: {_some(str(m) for m in by_stem.values())}; a good "
            "image has no defect: remove the masks, or move the images to a defect folder"
        )
        raise DataError(msg)
    for path in images:
        yield Sample(
            path=path,
            name=path.relative_to(data).as_posix(),
            label="good" if good else "bad",
            kind=None if good else folder.name,
            mask=by_stem.get(path.with_suffix("")),
            group="",
            part=part,
            digest="",
        )


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(f for f in parent.iterdir() if f.is_dir() and not f.name.startswith("."))


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images and masks anywhere under `folder`; raises DataError for what is neither."""
    images, masks, others = [], [], []
    for path in sorted(folder.rglob("*")):
        hidden = any(piece.startswith(".") for piece in path.relative_to(folder).parts)
        if hidden or path.is_dir() or path.suffix.lower() in _SIDE_FILES:
            continue
        if path.name.endswith(MASK_END):
            masks.append(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others.append(str(path))
    if others:
        taken = ", ".join(sorted(IMAGE_SUFFIXES))
        msg = f"{folder}: not images by their names: {_some(others)}; taken are {taken}"
        raise DataError(msg)
    return images, masks


def _read_all(
    found: list[Sample], *, by_thumbnail: bool
) -> tuple[list[Sample], list[Thumbnail] | None]:
    """Fill in the digests; raises one DataError for all files that are no whole images."""

    def read(sample: Sample) -> tuple[str, Thumbnail | None] | str:
        try:
            data = sample.path.read_bytes()
        except OSError as error:
            return f"{sample.path}: cannot be read ({error.strerror}); check its permissions"
        try:
            check_complete(data, str(sample.path))
            pixels = decode_image(data, str(sample.path)) if by_thumbnail else None
        except ImageError as error:
            return str(error)
        tiny = None if pixels is None else thumbnail(pixels)
        return hashlib.sha256(data).hexdigest(), tiny

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, found))
    faults = [r for r in results if isinstance(r, str)]
    if faults:
        more = f"\nand {len(faults) - 5} more" if len(faults) > 5 else ""
        msg = f"{len(faults)} of {len(found)} image files are unfit:\n" + "\n".join(faults[:5])
        raise DataError(msg + more)
    whole = [r for r in results if not isinstance(r, str)]
    samples = [replace(s, digest=r[0]) for s, r in zip(found, whole, strict=True)]
    thumbnails = [r[1] for r in whole if r[1] is not None]
    return samples, thumbnails if by_thumbnail else None


def _refuse_conflicts(samples: list[Sample]) -> None:
    """Raise DataError where one and the same file is labelled both good and bad."""
    by_digest: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_digest[sample.digest].append(sample)
    conflicts = [
        " = ".join(s.name for s in same)
        for same in by_digest.values()
        if len({s.label for s in same}) > 1
    ]
    if conflicts:
        msg = (
            f"the same file is labelled both good and bad: {_some(conflicts)}; "
            "keep it under the right label alone"
        )
        raise DataError(msg)


def _some(names: Iterator[str] | list[str]) -> str:
    """Up to five names and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more
