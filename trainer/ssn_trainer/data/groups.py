"""Which images show the same part: told by a list, by the name, or by the picture itself.

A split that puts photographs of one part on both sides reports figures that are far too good.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ssn_trainer.data.duplicates import Thumbnail, similarities, valley
from ssn_trainer.data.listing import some
from ssn_trainer.data.tables import read_rows
from ssn_trainer.errors import DataError

NEAR_DUPLICATES = "near-duplicates"


@dataclass(frozen=True)
class Grouping:
    """The group of each image, in the images' order."""

    own: tuple[str, ...]
    """As told; see `assign_groups`."""
    joined: tuple[str, ...]
    """The same, where groups that hold identical pictures are one."""
    words: str
    """How the groups were told."""


def assign_groups(
    names: list[str],
    digests: list[str],
    group_by: str | None,
    *,
    own: list[str | None],
    own_words: str,
    thumbnails: list[Thumbnail],
    unread: frozenset[str],
    test: frozenset[str],
) -> Grouping:
    """Group images by `group_by`: near-duplicates, a CSV file or a regular expression.

    Groups that share one of the `digests` of the images' pixels are joined.
    None takes the groups `own` that the layout told; where it told none for an image, that
    joins those that look like the same part. The CSV file may list `unread` images too;
    those of them that are marked `test` may not be in a group with images to learn from. Raises
    DataError where list or expression do not fit the images.
    """
    if group_by is None:
        groups, words = _complete(names, own, own_words, thumbnails)
    elif group_by == NEAR_DUPLICATES:
        groups, words = _near_duplicates(names, thumbnails)
    elif group_by.lower().endswith(".csv"):
        groups, words = (
            _from_csv(names, Path(group_by), unread, test),
            f"the list {Path(group_by).name}",
        )
    else:
        groups = _from_expression(names, group_by)
        words = f"the expression {group_by} on the name"
    joined = _join(groups, *_same(digests))
    if len(set(joined)) < len(set(groups)):
        words += f" ({len(set(groups)) - len(set(joined))} groups joined by identical pictures)"
    return Grouping(tuple(groups), tuple(joined), words)


def _complete(
    names: list[str], told: list[str | None], words: str, thumbnails: list[Thumbnail]
) -> tuple[list[str], str]:
    """Add the images for which no group was told to the groups of those that look like one part."""
    untold = np.array([group is None for group in told])
    groups = [name if group is None else group for name, group in zip(names, told, strict=True)]
    if not untold.any():
        return groups, words
    alike, how = _alike(thumbnails)
    rows, columns = np.nonzero(alike & (untold[:, None] | untold[None, :]))
    words += f", those without one ({untold.sum()} of {len(names)}) by {how}"
    return _join(groups, rows, columns), words


def _near_duplicates(names: list[str], thumbnails: list[Thumbnail]) -> tuple[list[str], str]:
    alike, how = _alike(thumbnails)
    return _components(names, *np.nonzero(alike)), how


def _alike(thumbnails: list[Thumbnail]) -> tuple[NDArray[np.bool_], str]:
    """Say which pairs look like one part, [N, N], and by what."""
    similarity = similarities(np.stack(thumbnails))
    cut = valley(similarity)
    return similarity >= cut, f"{NEAR_DUPLICATES} (similarity {cut:.2f} or more)"


def _same(digests: list[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair each picture with the first one that is the same."""
    first: dict[str, int] = {}
    rows = [first.setdefault(digest, i) for i, digest in enumerate(digests)]
    return np.array(rows, np.intp), np.arange(len(digests))


def _join(groups: list[str], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[str]:
    """Join the groups of images that are paired, by their places in `groups`."""
    order = sorted(set(groups))
    index = {group: i for i, group in enumerate(order)}
    own = np.array([index[group] for group in groups], np.intp)
    merged = _components(order, own[rows], own[columns])
    return [merged[i] for i in own.tolist()]


def _components(names: list[str], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[str]:
    """Name each node of a graph after the first of its connected component."""
    n = len(names)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for name, c in sorted(zip(names, component.tolist(), strict=True)):
        first.setdefault(c, name)
    return [first[c] for c in component.tolist()]


def _from_csv(
    names: list[str], path: Path, unread: frozenset[str], test: frozenset[str]
) -> list[str]:
    faults: list[str] = []
    listed: dict[str, str] = {}
    for row in read_rows(path, ("image", "group"), None, faults):
        image, group = row["image"], row["group"]
        if not image or not group:
            faults.append(f"{row.place}: without image or group ({image!r}, {group!r}); complete")
        elif listed.setdefault(image, group) != group:
            faults.append(
                f"{row.place}: {image} is listed in two groups, {listed[image]} and {group}; "
                "keep one"
            )
    if faults:
        raise DataError(some(faults, "\n"))
    unknown, missing = (
        sorted(set(listed) - set(names) - unread),
        [n for n in names if n not in listed],
    )
    if unknown:
        msg = f"{path}: {len(unknown)} listed images are not there: {some(unknown)}"
        raise DataError(f"{msg}; names are relative to the data folder, as good/NAME.jpg")
    if missing:
        msg = f"{path}: {len(missing)} images are not listed: {some(missing)}; list them all"
        raise DataError(msg)
    groups = [listed[n] for n in names]
    both = sorted(set(groups) & {listed[n] for n in test if n in listed})
    if both:
        msg = f"{path}: groups both in the test part and outside of it: {some(both)}; part them"
        raise DataError(msg)
    return groups


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
            f"--group-by {expression}: {len(unmatched)} of {len(names)} names do not match: "
            f"{some(unmatched)}; each image needs a group"
        )
        raise DataError(msg)
    return [group for group in groups if group]
