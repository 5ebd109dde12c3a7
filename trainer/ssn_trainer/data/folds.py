"""Folds for cross-validation: drawn by group, or as a file says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from ssn_trainer.data.listing import some
from ssn_trainer.data.samples import DataSet, Sample
from ssn_trainer.data.split import Split, by_group, cut, holders_of, refuse_lump
from ssn_trainer.errors import DataError

_TUNE_SHARES = {"train": 4.0, "tune": 1.0}
_LEAST_GROUPS = 3
"""One to test, tune and train on each."""


@dataclass(frozen=True)
class Fold:
    """One fold; its parts are ordered by name."""

    split: Split
    leaks: tuple[Sample, ...]
    """Test samples whose group is in train or tune too; identical pictures are in one."""


class _Sides(BaseModel):
    train: Annotated[list[str], Field(min_length=1)]
    test: Annotated[list[str], Field(min_length=1)]


class _FoldsFile(BaseModel):
    folds: Annotated[list[_Sides], Field(min_length=1)]


def make_folds(dataset: DataSet, count: int, seed: int) -> tuple[Fold, ...]:
    """Draw `count` folds: each sample is tested once, no group is cut, labels are in all.

    Stratified by label and defect type, as `split` is. A fifth of what a fold does not test tunes.
    The layout's marks do not count. The outcome depends on seed and samples, not on their order.

    Raises DataError, saying how many folds are possible, where a label has too few groups.
    """
    refuse_lump(dataset)
    samples = sorted(dataset.samples, key=lambda s: s.name)
    holders = holders_of(by_group(samples))
    scarce = min(holders, key=lambda label: len(holders[label]))
    possible = len(holders[scarce])
    # Of two folds each is what the other trains and tunes on: that takes two groups of each label.
    least = 2 if count == 2 else 1
    if count < 2 or possible < max(_LEAST_GROUPS, count * least):
        many = f"2 to {possible} folds are" if possible > _LEAST_GROUPS else "3 folds are"
        offer = many if possible >= _LEAST_GROUPS else "no fold is"
        msg = (
            f"{dataset.root}: cannot be cut into {count} folds: the {scarce} images show "
            f"{possible} different parts, so {offer} possible; "
            f"ask for as many as are, or add {scarce} images of other parts"
        )
        raise DataError(msg)
    parts = cut(samples, {str(n): 1.0 for n in range(count)}, seed, least)
    return tuple(
        _make_fold(
            [s for other, held in parts.items() if other != n for s in held],
            test,
            seed,
            f"fold {int(n) + 1} of {count}",
        )
        for n, test in parts.items()
    )


def read_folds(path: Path, dataset: DataSet, seed: int = 0) -> tuple[Fold, ...]:
    """Read folds in the form of KolektorSDD's: {"folds": [{"train": [...], "test": [...]}]}.

    An entry that is an image's name is that image alone; any other is a group, as it was before
    identical pictures joined it to others.
    The file is followed, leaks included; they are listed, not repaired. A fifth of a fold's train
    part tunes, cut by group, stratified, by `seed`.

    Raises DataError where the file cannot be read, names what is not there, or leaves a train part
    that cannot be cut.
    """
    try:
        sides = _FoldsFile.model_validate_json(path.read_bytes()).folds
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give a JSON file of folds"
        raise DataError(msg) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(piece) for piece in first["loc"]) or "the file"
        wanted = '{"folds": [{"train": [GROUP, ...], "test": [GROUP, ...]}, ...]}'
        msg = f"{path}: {where}: {first['msg']}; wanted is {wanted}"
        raise DataError(msg) from error
    samples = sorted(dataset.samples, key=lambda s: s.name)
    names = {s.name for s in samples} | {s.own_group for s in samples}
    unknown = sorted({e for side in sides for e in (*side.train, *side.test)} - names)
    if unknown:
        msg = (
            f"{path}: {len(unknown)} entries are neither a group nor an image of {dataset.root}: "
            f"{some(unknown)}; the groups were told by {dataset.grouped_by}"
        )
        raise DataError(msg)
    return tuple(
        _make_fold(
            _named(samples, side.train),
            _named(samples, side.test),
            seed,
            f"{path}, fold {number}",
        )
        for number, side in enumerate(sides, 1)
    )


def _named(samples: Sequence[Sample], entries: Sequence[str]) -> list[Sample]:
    """Return the samples of the entries: images by name, all others are groups.

    A group that near-duplicates found is named after its first image, and not meant by that name.
    """
    images = set(entries) & {s.name for s in samples}
    groups = set(entries) - images
    return [s for s in samples if s.name in images or s.own_group in groups]


def _make_fold(
    learned: Sequence[Sample],
    test: Sequence[Sample],
    seed: int,
    what: str,
) -> Fold:
    """Cut tune from `learned` and find the leaks."""
    try:
        parts = cut(sorted(learned, key=lambda s: s.name), _TUNE_SHARES, seed)
    except DataError as error:
        msg = f"{what}: its train part cannot be cut into train and tune: {error}"
        raise DataError(msg) from error
    groups = {s.group for s in learned}
    leaks = tuple(s for s in test if s.group in groups)
    return Fold(Split(parts["train"], parts["tune"], tuple(test)), leaks)
