"""Samples into train (fit), tune (early stop, threshold, calibration) and test (metrics only)."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssn_trainer.data.groups import NEAR_DUPLICATES
from ssn_trainer.data.listing import some
from ssn_trainer.data.samples import DataSet, Sample
from ssn_trainer.errors import DataError

_SHARES = {"train": 0.6, "tune": 0.2, "test": 0.2}
_LARGEST_GROUP = 1 / 3


@dataclass(frozen=True)
class Split:
    """The parts, each ordered by name; no group is in two of them."""

    train: tuple[Sample, ...]
    tune: tuple[Sample, ...]
    test: tuple[Sample, ...]


def split(dataset: DataSet, seed: int) -> Split:
    """Cut a data set 60 : 20 : 20 by images, stratified by label and defect type, by group.

    Where the layout marks what is to be trained on, only train and tune are cut, 3 : 1, or taken
    as they are if the layout marks what is to be tuned on, too: the test part is not looked at
    before `eval`. The outcome depends on the seed and the samples, not on their order.

    Raises DataError where a label has too few groups to be in every part, where near-duplicates
    make one group of more than a third of the images, or where marked parts share a group.
    """
    refuse_lump(dataset)
    samples = sorted(dataset.samples, key=lambda s: s.name)
    if any(s.part == "tune" for s in samples):
        return _as_marked(samples)
    marked = any(s.part == "train" for s in samples)
    parts = ("train", "tune") if marked else tuple(_SHARES)
    parts_cut = cut(samples, {part: _SHARES[part] for part in parts}, seed)
    return Split(parts_cut["train"], parts_cut["tune"], parts_cut.get("test", ()))


def _as_marked(samples: list[Sample]) -> Split:
    marked = {part: tuple(s for s in samples if s.part == part) for part in ("train", "tune")}
    for part, held in marked.items():
        if not any(s.label == "good" for s in held):
            msg = f"no image of a good part is marked {part}; mark some, or mark nothing {part}"
            raise DataError(msg)
    both = {s.group for s in marked["train"]} & {s.group for s in marked["tune"]}
    if both:
        msg = (
            f"images of one part are marked train and tune: {some(sorted(both))}; keep each group "
            "in one split, or correct the grouping with --group-by"
        )
        raise DataError(msg)
    return Split(marked["train"], marked["tune"], ())


def cut(
    samples: list[Sample], shares: dict[str, float], seed: int, least: int = 1
) -> dict[str, tuple[Sample, ...]]:
    """Cut samples, ordered by name, into parts of those shares, stratified and by group.

    Each part has `least` groups of each label or more. Raises DataError where a label has too few.
    """
    groups = by_group(samples)
    _refuse_too_few(groups, len(shares) * least)
    order = sorted(groups)
    random.Random(seed).shuffle(order)  # noqa: S311 -- a reproducible draw, no secret
    totals = Counter(s.kind for s in samples)
    kinds = {g: Counter(s.kind for s in members) for g, members in groups.items()}
    # Groups that weigh most in some kind first: the light ones even out what these leave.
    order.sort(key=lambda g: -max(n / totals[kind] for kind, n in kinds[g].items()))
    placed = _place(kinds, order, shares, {})
    if not _covers(groups, placed, shares, least):
        placed = _place(kinds, order, shares, _some_of_each(groups, order, shares, least))
    return {p: tuple(s for s in samples if placed[s.group] == p) for p in shares}


def by_group(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the samples of each group."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    return groups


def _place(
    kinds: dict[str, Counter[str | None]],
    order: list[str],
    shares: dict[str, float],
    fixed: dict[str, str],
) -> dict[str, str]:
    """Give each group in turn to the part that most wants it; `fixed` ones have theirs.

    Greedy descent on the sum over parts and kinds of (count - target)^2 / target, each kind
    weighted by one over its size so that rare defect types are spread as well as common ones.
    """
    totals: Counter[str | None] = sum(kinds.values(), Counter())
    whole = sum(shares.values())
    have: dict[str, Counter[str | None]] = {p: Counter() for p in shares}

    def gain(part: str, group: str) -> float:
        wanted = 0.0
        for kind, n in kinds[group].items():
            target = totals[kind] * shares[part] / whole
            wanted += n / totals[kind] * (2 - (2 * have[part][kind] + n) / target)
        return wanted

    placed: dict[str, str] = {}
    for group in [*fixed, *(g for g in order if g not in fixed)]:
        gains = {p: gain(p, group) for p in shares}
        part = fixed.get(group) or max(shares, key=gains.__getitem__)
        have[part].update(kinds[group])
        placed[group] = part
    return placed


def holders_of(groups: dict[str, list[Sample]]) -> dict[str, set[str]]:
    """Return for each label the groups that hold it."""
    holders: dict[str, set[str]] = defaultdict(set)
    for group, members in groups.items():
        for sample in members:
            holders[sample.label].add(group)
    return holders


def _covers(
    groups: dict[str, list[Sample]], placed: dict[str, str], parts: Iterable[str], least: int
) -> bool:
    """Tell whether every part has `least` groups of every label."""
    counts = [Counter(placed[g] for g in held) for held in holders_of(groups).values()]
    return all(count[part] >= least for count in counts for part in parts)


def _some_of_each(
    groups: dict[str, list[Sample]], order: list[str], shares: dict[str, float], least: int
) -> dict[str, str]:
    """Give every part `least` groups of every label, the lightest that do.

    Groups of both labels go first, one a place: then a label with as many groups as there are
    places always has one left for each place that still lacks it.
    """
    holders = holders_of(groups)
    fixed: dict[str, str] = {}
    lacks = {
        label: [*reversed(shares)] * least for label in holders
    }  # the smallest part takes first
    lightest = order[::-1]
    by_labels = sorted(lightest, key=lambda g: -sum(g in h for h in holders.values()))
    for group in by_labels:
        labels = [label for label, held in holders.items() if group in held]
        common = [p for p in lacks[labels[0]] if all(p in lacks[label] for label in labels)]
        if common:
            fixed[group] = common[0]
            for label in labels:
                lacks[label].remove(common[0])
    return fixed


def _refuse_too_few(groups: dict[str, list[Sample]], parts: int) -> None:
    holders = holders_of(groups)
    if "good" not in holders:
        msg = "no image of a good part is left to train on; add good images"
        raise DataError(msg)
    for label, held in holders.items():
        if len(held) < parts:
            shown = "one part" if len(held) == 1 else f"{len(held)} different parts"
            msg = (
                f"the {label} images show {shown}, but each of the {parts} parts of the split "
                f"needs one of its own; add {label} images of other parts, or correct the "
                "grouping with --group-by"
            )
            raise DataError(msg)


def refuse_lump(dataset: DataSet) -> None:
    """Raise DataError where near-duplicates found one group too large to be one part."""
    group, count = Counter(s.group for s in dataset.samples).most_common(1)[0]
    total = len(dataset.samples)
    if dataset.grouped_by.startswith(NEAR_DUPLICATES) and count > max(2, _LARGEST_GROUP * total):
        msg = (
            f"near-duplicates: {count} of {total} images look like {group} and would be one part; "
            "say which images belong together with --group-by FILE.csv (image,group) or --group-by "
            "EXPRESSION on the name ('.*': each image is a part of its own)"
        )
        raise DataError(msg)
