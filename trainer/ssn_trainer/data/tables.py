"""Tables that say which images there are and what they are.

    csv       FILE.csv, columns image,label[,mask][,group][,split]; label: good, bad, or the name
              of a defect type; split: train, tune, test
    ledger    labels.csv in a folder: the agent's export, of which image, label (good, bad, or
              empty: not labelled yet) and part_id are needed; defect_type, mask and disagreement
              are read where they are there

Paths are relative to the table's folder and do not lead out of it. Each row that does not fit is a
fault that names its line.
"""

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ssn_agent.frames.pixels import IMAGE_SUFFIXES
from ssn_trainer.data.listing import UNTYPED, Label, Listed, Listing, Part, some
from ssn_trainer.errors import DataError

LEDGER_FILE = "labels.csv"
LEDGER_NEEDS = ("image", "label", "part_id")
MAX_TABLE_BYTES = 64 * 2**20
"""A quarter of a million rows of the ledger's export."""

_PARTS: dict[str, Part | None] = {"": None, "train": "train", "tune": "tune", "test": "test"}
_TYPE = re.compile(r"[^\W\d_][\w .+-]*")
_UNCLEAR = frozenset(
    {"good", "bad", "ok", "okay", "io", "pass", "passed", "normal", "unknown"}
    | {"none", "null", "nan", "true", "false", "yes", "no"}
)
"""Not taken as defect types, in any case of letters: they may mean a good part."""


@dataclass(frozen=True)
class Row:
    """A line of a table; absent columns and fields are empty."""

    place: str
    """The file and the line, for messages."""
    fields: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """Return the field of a column, without spaces around it."""
        return self.fields.get(column, "")


def read_header(path: Path, needed: tuple[str, ...]) -> list[str]:
    """Return the columns of a table, none for an empty file. Raises DataError."""
    return _read(path, needed)[0]


def read_rows(
    path: Path, needed: tuple[str, ...], optional: tuple[str, ...] | None, faults: list[str]
) -> list[Row]:
    """Read a CSV file; rows with more fields than columns are added to `faults`.

    Columns other than `needed` and `optional` are refused, or passed over where that is None.
    Raises DataError where the file cannot be read or its columns do not fit.
    """
    header, lines = _read(path, needed)
    wanted = ",".join(needed)
    if not set(needed) <= set(header):
        msg = f"{path}: its first line must be {wanted} (it is {','.join(header)!r})"
        raise DataError(msg)
    unknown = [] if optional is None else sorted(set(header) - set(needed) - set(optional))
    if unknown or len(header) > len(set(header)):
        what = f"columns not known: {some(unknown)}" if unknown else "a column is there twice"
        known = some([*needed, *(optional or ())])
        msg = f"{path}: {what}; taken are {known}: rename or remove the others"
        raise DataError(msg)
    rows = []
    for number, values in lines:
        place = f"{path}, line {number}"
        if len(values) > len(header):
            faults.append(f"{place}: {len(values)} fields for {len(header)} columns; put in quotes")
        else:
            pairs = zip(header, values, strict=False)  # a short line lacks its last fields
            rows.append(Row(place, {column: value.strip() for column, value in pairs}))
    return rows


def list_csv(table: Path) -> Listing:
    """Read the images that a CSV file lists. Raises DataError where its columns do not fit."""
    faults: list[str] = []
    rows = read_rows(table, ("image", "label"), ("mask", "group", "split"), faults)
    images: list[Listed] = []
    for row in rows:
        label, kind = _label(row["label"])
        if label is None:
            faults.append(
                f"{row.place}: the label {row['label']!r} is not known; give good, bad, or the "
                "name of a defect type"
            )
        if row["split"] not in _PARTS:
            faults.append(
                f"{row.place}: the split {row['split']!r} is not known; give train, tune, test "
                "or nothing"
            )
        image = _listed(table.parent, row, label, kind, row["group"], faults)
        if image is not None:
            images.append(replace(image, part=_PARTS.get(row["split"])))
    images, notes = _mark_all(_refuse_doubles(table, images, faults))
    faults += _spanning(table, images)
    grouped = "the column group" if any(s.group for s in images) else None
    listed = tuple(sorted(images, key=lambda s: s.name))
    return Listing(
        table.parent, "csv", f"label good in {table.name}", listed, tuple(faults), notes, grouped
    )


def list_ledger(data: Path) -> Listing:
    """Read an export of the agent's ledger. Raises DataError where its columns do not fit.

    A part is its id, whatever the product: two cameras that see it need not both be told that.
    """
    table = data / LEDGER_FILE
    faults: list[str] = []
    rows = read_rows(table, LEDGER_NEEDS, None, faults)
    images: list[Listed] = []
    disputed: set[str] = set()
    for row in rows:
        if row["label"] not in {"good", "bad", ""}:
            faults.append(f"{row.place}: the label {row['label']!r} is not known; give good or bad")
        elif row["label"]:
            label: Label = "good" if row["label"] == "good" else "bad"
            kind = (row["defect_type"] or UNTYPED) if label == "bad" else None
            image = _listed(data, row, label, kind, row["part_id"], faults)
            if image is not None:
                images.append(image)
                disputed |= {image.name} if row["disagreement"] == "true" else set()
    unlabelled = sum(not row["label"] for row in rows)
    images = _refuse_doubles(table, images, faults)
    return Listing(
        root=data,
        layout="ledger",
        good_place=f"label good in {LEDGER_FILE}",
        images=tuple(sorted(images, key=lambda s: s.name)),
        faults=tuple(faults),
        notes=(f"{unlabelled} of {len(rows)} images have no label and are passed over",)
        if unlabelled
        else (),
        groups_by="part_id",
        by_looks=True,
        disputed=tuple(sorted(disputed)),
        unlabelled=unlabelled,
    )


def _read(path: Path, needed: tuple[str, ...]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and each line that is not blank, with its number."""
    try:
        if (size := path.stat().st_size) > MAX_TABLE_BYTES:
            msg = f"{path}: has {size} bytes, at most {MAX_TABLE_BYTES} are taken; part it"
            raise DataError(msg)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        wanted = f"a CSV file in UTF-8, separated by commas, that begins {','.join(needed)}"
        msg = f"{path}: cannot be read ({error}); give {wanted}"
        raise DataError(msg) from error
    header = [column.strip() for column in lines[0][1]] if lines else []
    return header, lines[1:]


def _label(text: str) -> tuple[Label | None, str | None]:
    """Return label and defect type; no label where the text is neither."""
    if text == "good":
        return "good", None
    if text == "bad":
        return "bad", UNTYPED
    if text.lower() in _UNCLEAR or not _TYPE.fullmatch(text):
        return None, None
    return "bad", text


def _listed(
    root: Path, row: Row, label: Label | None, kind: str | None, group: str, faults: list[str]
) -> Listed | None:
    """Return the image of a row; None, with the reason in `faults`, where it has none."""
    path = _path(root, row, "image", faults)
    mask = _path(root, row, "mask", faults) if row["mask"] else None
    if label == "good" and row["mask"]:
        faults.append(f"{row.place}: a mask for a good image; leave it empty, or label it bad")
        mask = None
    if path is None or label is None:
        return None
    name = path.relative_to(root).as_posix()
    return Listed(path, name, label, kind, mask, group or None, None)


def _path(root: Path, row: Row, column: str, faults: list[str]) -> Path | None:
    """Return the file that a row names; None, with the reason in `faults`, where it is none."""
    text = row[column]
    pure = PurePosixPath(text)
    if not text:
        faults.append(f"{row.place}: no {column}; complete or remove the line")
    elif pure.is_absolute() or ".." in pure.parts:
        faults.append(
            f"{row.place}: the {column} {text} leads out of {root}; give a path inside, without .."
        )
    elif pure.suffix.lower() not in IMAGE_SUFFIXES:
        taken = ", ".join(sorted(IMAGE_SUFFIXES))
        faults.append(f"{row.place}: {text} is not an image by its name; taken are {taken}")
    elif not _is_file(root / pure):
        faults.append(f"{row.place}: the {column} {text} is not there; add it or remove the line")
    else:
        return root / pure
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a zero byte
        return False


def _refuse_doubles(table: Path, images: list[Listed], faults: list[str]) -> list[Listed]:
    """Keep the first row of each image; the others are a fault, whether they agree or not."""
    first: dict[str, Listed] = {}
    doubled = [s.name for s in images if first.setdefault(s.name, s) is not s]
    if doubled:
        faults.append(f"{table}: listed more than once: {some(doubled)}; keep one line of each")
    return list(first.values())


def _mark_all(images: list[Listed]) -> tuple[list[Listed], tuple[str, ...]]:
    """Mark for training what has no split where others have one."""
    unmarked = sum(s.part is None for s in images)
    if unmarked in {0, len(images)}:
        return images, ()
    note = f"{unmarked} of {len(images)} images have no split and count as train, as others have"
    return [replace(s, part=s.part or "train") for s in images], (note,)


def _spanning(table: Path, images: list[Listed]) -> list[str]:
    """Name the groups that are in two marked parts."""
    parts: dict[str, set[Part]] = defaultdict(set)
    for image in images:
        if image.group and image.part:
            parts[image.group].add(image.part)
    return [
        f"{table}: group {group} is in {' and '.join(sorted(held))}; keep each group in one split"
        for group, held in parts.items()
        if len(held) > 1
    ]
