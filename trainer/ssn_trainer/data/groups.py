"""Which images show the same part: told by a list, by the name, or by the picture itself.

A split that puts photographs of one part on both sides reports figures that are far too good.
"""

import csv
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ssn_trainer.data.duplicates import Thumbnail, similarities, valley
from ssn_trainer.errors import DataError

NEAR_DUPLICATES = "near-duplicates"


def assign_groups(
    names: list[str],
    digests: list[str],
    group_by: str | None,
    thumbnails: list[Thumbnail] | None,
    unread: frozenset[str] = frozenset(),
) -> tuple[list[str], str]:
    """Return the group of each image, and in words how the groups were told.

    Given `thumbnails`, near-duplicates are looked for; else `group_by` is a CSV file, which may
    list `unread` images too, or a regular expression. Raises DataError where the list or the
    expression does not fit the images.
    """
    if thumbnails is not None:
        groups, words = _near_duplicates(names, thumbnails)
    elif group_by is not None and group_by.lower().endswith(".csv"):
        groups, words = _from_csv(names, Path(group_by), unread), f"the list {Path(group_by).name}"
    else:
        groups = _from_expression(names, group_by or "")
        words = f"the expression {group_by} on the name"
    joined = _join(groups, digests)
    if len(set(joined)) < len(set(groups)):
        words += f" ({len(set(groups)) - len(set(joined))} groups joined by identical files)"
    return joined, words


def _near_duplicates(names: list[str], thumbnails: list[Thumbnail]) -> tuple[list[str], str]:
    similarity = similarities(np.stack(thumbnails))
    cut = valley(similarity)
    rows, columns = np.nonzero(similarity >= cut)
    return _components(names, rows, columns), f"{NEAR_DUPLICATES} (similarity {cut:.2f} or more)"


def _join(groups: list[str], digests: list[str]) -> list[str]:
    """Join groups that hold the same file."""
    order = sorted(set(groups))
    index = {group: i for i, group in enumerate(order)}
    first: dict[str, int] = {}
    rows, columns = [], []
    for group, digest in zip(groups, digests, strict=True):
        rows.append(first.setdefault(digest, index[group]))
        columns.append(index[group])
    merged = _components(order, np.array(rows), np.array(columns))
    return [merged[index[group]] for group in groups]


def _components(names: list[str], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[str]:
    """Name each node of a graph after the first of its connected component."""
    n = len(names)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for name, c in sorted(zip(names, component.tolist(), strict=True)):
        first.setdefault(c, name)
    return [first[c] for c in component.tolist()]


def _from_csv(names: list[str], path: Path, unread: frozenset[str]) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read ({error}); give a CSV file with the columns image,group"
        raise DataError(msg) from error
    if header is None or not {"image", "group"} <= set(header):
        msg = f"{path}: its first line must be image,group (it is {','.join(header or [])!r})"
        raise DataError(msg)
    listed: dict[str, str] = {}
    for row in rows:
        image, group = row["image"], row["group"]
        if not image or not group:
            msg = f"{path}: a line without image or group ({image!r}, {group!r}); complete it"
            raise DataError(msg)
        if listed.setdefault(image, group) != group:
            msg = f"{path}: {image} is listed in two groups, {listed[image]} and {group}; keep one"
            raise DataError(msg)
    unknown, missing = (
        sorted(set(listed) - set(names) - unread),
        [n for n in names if n not in listed],
    )
    if unknown:
        msg = f"{path}: {len(unknown)} listed images are not there, as {_first(unknown)}"
        raise DataError(f"{msg}; names are relative to the data folder, as good/NAME.jpg")
    if missing:
        msg = f"{path}: {len(missing)} images are not listed, as {_first(missing)}; list them all"
        raise DataError(msg)
    return [listed[n] for n in names]


def _from_expression(names: list[str], expression: str) -> list[str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        msg = (
            f"--group-by {expression}: neither a CSV file nor a regular expression ({error}); "
            f"give one of them, or {NEAR_DUPLICATES}"
        )
        raise DataError(msg) from error
    matches = [pattern.search(n) for n in names]
    groups = [m and (m.group(1) if pattern.groups else m.group(0)) for m in matches]
    unmatched = [n for n, group in zip(names, groups, strict=True) if not group]
    if unmatched:
        msg = (
            f"--group-by {expression}: {len(unmatched)} of {len(names)} names do not match, as "
            f"{_first(unmatched)}; each image needs a group"
        )
        raise DataError(msg)
    return [group for group in groups if group]


def _first(names: list[str]) -> str:
    return ", ".join(names[:5])
