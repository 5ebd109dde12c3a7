"""A data set to labelled samples: listed by its layout, read, and told apart by part."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_trainer.data.formats import list_images
from ssn_trainer.data.groups import NEAR_DUPLICATES, Grouping, assign_groups
from ssn_trainer.data.listing import Format, Label, Layout, Listed, Listing, Part, some
from ssn_trainer.data.reading import Read, read_images
from ssn_trainer.errors import DataError

GROUPS_FILE = "groups.csv"


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    path: Path
    name: str
    """POSIX path relative to the data folder."""
    label: Label
    kind: str | None
    """The defect type, by its folder; None for good images."""
    mask: Path | None
    group: str
    """Images of one part share it."""
    part: Part | None
    """As the layout marks it; None where it marks none."""
    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""
    own_group: str = ""
    """The group before identical pictures joined it to another: what a file of folds names."""


@dataclass(frozen=True)
class DataSet:
    """The labelled images of a folder or a table, ordered by name."""

    root: Path
    layout: Layout
    grouped_by: str
    """How images of one part were told, in words."""
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    """What was passed over, and why."""


def load(
    data: Path,
    group_by: str | None = None,
    format: Format = "auto",  # noqa: A002 -- the option's name
) -> DataSet:
    """Read the images of `data` that a model may learn from: all, but what is marked as test.

    A marked test part is not opened, only its names are seen.

    `group_by` names a CSV of `image,group`, a regular expression on the image's name (its first
    group, or else the whole match) or `near-duplicates`; None takes `groups.csv` in a folder, or
    the layout's own groups, or near-duplicates where there are none. Pictures that are identical
    pixel for pixel always share a group, whatever their files.

    Raises DataError, naming files and the remedy, for anything that does not hold together.
    """
    listing = _listing(data, format)
    return _read(listing, [s for s in listing.images if s.part != "test"], group_by)


def load_all(
    data: Path,
    group_by: str | None = None,
    format: Format = "auto",  # noqa: A002 -- the option's name
) -> DataSet:
    """Read all images of `data` as `load` does, a marked test part among them.

    For who judges each image unseen by other means than the layout's marks: cross-validation.
    """
    listing = _listing(data, format)
    return _read(listing, listing.images, group_by)


def load_test(
    data: Path,
    format: Format = "auto",  # noqa: A002 -- the option's name
) -> DataSet:
    """Read the images of `data` that a model is judged on: those marked as test, or else all.

    Grouped as `group_test` does. Raises DataError, as `load` does.
    """
    listing = _listing(data, format)
    judged = [s for s in listing.images if s.part == "test"] or list(listing.images)
    read, faults = read_images(judged)
    _refuse_unfit(faults, len(judged))
    _refuse_conflicts(read)
    return _data_set(listing, read, group_test(listing, read))


def grouping_of(listing: Listing, group_by: str | None) -> str | None:
    """Return how images of one part are told; None: the layout's own groups."""
    if group_by is None and listing.layout != "csv" and (listing.root / GROUPS_FILE).is_file():
        return str(listing.root / GROUPS_FILE)
    if group_by is None and listing.groups_by is None:
        return NEAR_DUPLICATES
    return group_by


def group_images(listing: Listing, read: Sequence[Read], how: str | None) -> Grouping:
    """Group the images of a listing that were read; the others are known by name alone.

    `how` is as `grouping_of` tells. Raises DataError where it does not fit the images, or where no
    good one is among them.
    """
    if not any(r.label == "good" for r in read):
        msg = f"{listing.root}: no images of good parts ({listing.good_place}); put them there"
        raise DataError(msg)
    return _group(listing, read, how, by_looks=listing.by_looks)


def group_test(listing: Listing, read: Sequence[Read]) -> Grouping:
    """Group images to judge by `groups.csv` or the layout's own groups, as `group_images` does.

    Where neither tells, each image is its own: looks alone are no ground to judge fewer parts.
    Raises DataError where the list does not fit the images.
    """
    how = grouping_of(listing, None)
    return _group(listing, read, None if how == NEAR_DUPLICATES else how, by_looks=False)


def _group(listing: Listing, read: Sequence[Read], how: str | None, *, by_looks: bool) -> Grouping:
    names = {r.listed.name for r in read}
    others = [s for s in listing.images if s.name not in names]
    return assign_groups(
        [r.listed.name for r in read],
        [r.look.digest for r in read],
        how,
        own=[r.listed.group or (None if by_looks else r.listed.name) for r in read],
        own_words=listing.groups_by or "each image by itself",
        thumbnails=[r.look.thumbnail for r in read],
        unread=frozenset(s.name for s in others),
        test=frozenset(s.name for s in others if s.part == "test"),
    )


def make_samples(read: Sequence[Read], grouping: Grouping) -> tuple[Sample, ...]:
    """Join what was read with its groups, in the same order."""
    return tuple(
        Sample(
            path=r.listed.path,
            name=r.listed.name,
            label=r.label,
            kind=r.kind,
            mask=r.mask,
            group=group,
            part=r.listed.part,
            digest=r.digest,
            own_group=own,
        )
        for r, group, own in zip(read, grouping.joined, grouping.own, strict=True)
    )


def label_conflicts(read: Sequence[Read]) -> list[list[Read]]:
    """Return the images that are one and the same file and labelled both good and bad."""
    by_digest: dict[str, list[Read]] = defaultdict(list)
    for one in read:
        by_digest[one.digest].append(one)
    return [same for same in by_digest.values() if len({r.label for r in same}) > 1]


def _listing(data: Path, format: Format) -> Listing:  # noqa: A002 -- the option's name
    """List the images of `data`. Raises one DataError for all faults of the listing."""
    listing = list_images(data, format)
    if listing.faults:
        raise DataError(some(listing.faults, "\n"))
    return listing


def _read(listing: Listing, images: Sequence[Listed], group_by: str | None) -> DataSet:
    """Read and group some images of a listing. Raises DataError."""
    read, faults = read_images(images)
    _refuse_unfit(faults, len(images))
    _refuse_conflicts(read)
    return _data_set(listing, read, group_images(listing, read, grouping_of(listing, group_by)))


def _data_set(listing: Listing, read: Sequence[Read], grouping: Grouping) -> DataSet:
    samples = make_samples(read, grouping)
    return DataSet(listing.root, listing.layout, grouping.words, samples, listing.notes)


def _refuse_unfit(faults: list[str], total: int) -> None:
    """Raise one DataError for all files that are no whole images."""
    if faults:
        msg = f"{len(faults)} of {total} image files are unfit:\n{some(faults, chr(10))}"
        raise DataError(msg)


def _refuse_conflicts(read: Sequence[Read]) -> None:
    """Raise DataError where one and the same file is labelled both good and bad."""
    conflicts = [" = ".join(r.listed.name for r in same) for same in label_conflicts(read)]
    if conflicts:
        msg = (
            f"the same file is labelled both good and bad: {some(conflicts)}; "
            "keep it under the right label alone"
        )
        raise DataError(msg)
