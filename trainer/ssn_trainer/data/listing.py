"""What a layout makes of a folder or a table: the images it lists, before any of them is opened."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssn_agent.frames.pixels import IMAGE_SUFFIXES

Label = Literal["good", "bad"]
Part = Literal["train", "tune", "test"]
Layout = Literal["folder", "mvtec", "ksdd", "ksdd2", "ledger", "csv"]
Format = Literal["auto", "folder", "mvtec", "ksdd", "ksdd2", "ledger", "csv"]

UNTYPED = "defect"
"""The defect type of bad images where the layout names none."""

SIDE_FILES = frozenset({".csv", ".db", ".ini", ".json", ".md", ".txt", ".xml", ".yaml", ".yml"})
"""Endings of files that may lie beside images and are not looked at."""

_NOTES = ("readme", "licence", "license")
"""Beginnings of names, in any case of letters, of files that tell about the data set."""
_OWN_SUFFIXES = frozenset({".html", ".safetensors", ".ssn"})
"""Endings of what the trainer writes."""

_SHOWN = 5


@dataclass(frozen=True)
class Listed:
    """An image as the layout lists it."""

    path: Path
    name: str
    """POSIX path relative to the data folder."""
    label: Label | None
    """None: bad where the mask marks something."""
    kind: str | None
    """The defect type if the image is bad; None for good images."""
    mask: Path | None
    group: str | None
    """None where the layout names no groups."""
    part: Part | None
    """As the layout marks it; None where it marks none."""


@dataclass(frozen=True)
class Listing:
    """All images of a data set, ordered by name, and what is wrong with how they lie there."""

    root: Path
    layout: Layout
    good_place: str
    """Where the images of good parts belong, in words."""
    images: tuple[Listed, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was passed over, and why."""
    groups_by: str | None = None
    """What names the groups, in words; None where the layout names none."""
    by_looks: bool = False
    """Whether images without a group may be of one part all the same, and are told by their looks;
    if not, each is its own."""
    disputed: tuple[str, ...] = ()
    """Images on which people, or the label and the agent's verdict, disagree."""
    unlabelled: int = 0
    """Images passed over because they have no label yet."""


def some(names: Iterable[object], between: str = ", ") -> str:
    """Up to five names and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return between.join(listed[:_SHOWN]) + more


def folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` but hidden ones, by name; none where it is not there."""
    if not parent.is_dir():
        return []
    return sorted(f for f in parent.iterdir() if f.is_dir() and not f.name.startswith("."))


def image_files(folder: Path, faults: list[str]) -> list[Path]:
    """Return the image files anywhere under `folder`, masks among them, by path.

    Hidden files and side files are passed over; files of other kinds are added to `faults`.
    """
    images, others = [], []
    for path in sorted(folder.rglob("*")):
        hidden = any(piece.startswith(".") for piece in path.relative_to(folder).parts)
        if hidden or path.is_dir() or path.suffix.lower() in SIDE_FILES:
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others.append(path)
    if others:
        taken = ", ".join(sorted(IMAGE_SUFFIXES))
        faults.append(f"{folder}: not images by their names: {some(others)}; taken are {taken}")
    return images


def strays(data: Path, walked: Container[Path]) -> list[str]:
    """Return at most one fault, for files under `data` that lie in none of the `walked` folders.

    Hidden files, side files, notes on the data set and what the trainer writes are passed over.
    """
    found = [path.relative_to(data) for path in _outside(data, walked)]
    if not found:
        return []
    fault = f"{data}: {len(found)} files where the layout has none: {some(found)}"
    return [f"{fault}; move them to the images of their kind, or out of the data"]


def _outside(folder: Path, walked: Container[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path in walked:
            continue
        if path.is_dir() and not path.is_symlink():  # a link may lead back here
            yield from _outside(path, walked)
        elif not path.name.lower().startswith(_NOTES) and (
            path.suffix.lower() not in SIDE_FILES | _OWN_SUFFIXES
        ):
            yield path
