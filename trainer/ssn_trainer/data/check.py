"""Everything that is wrong or doubtful about a data set, in one go."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_trainer.data.duplicates import similarities, valley
from ssn_trainer.data.formats import list_images
from ssn_trainer.data.groups import Grouping
from ssn_trainer.data.images import load_mask
from ssn_trainer.data.listing import Format, Listing, some
from ssn_trainer.data.reading import Read, read_images
from ssn_trainer.data.samples import (
    DataSet,
    Sample,
    group_images,
    group_test,
    grouping_of,
    make_samples,
)
from ssn_trainer.data.split import split
from ssn_trainer.errors import BlankMaskError, DataError

Level = Literal["error", "warning"]
Topic = Literal[
    "layout",
    "unreadable",
    "mask",
    "conflict",
    "disagreement",
    "leak",
    "duplicate",
    "grouping",
    "split",
    "note",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (an error) or doubtful (a warning)."""

    level: Level
    topic: Topic
    message: str
    images: tuple[tuple[str, ...], ...] = ()
    """The images it is about: alone, or in pairs and sets of those that are alike."""


@dataclass(frozen=True)
class Report:
    """What a data set holds, and every finding, errors first."""

    data: str
    findings: tuple[Finding, ...]
    format: str | None = None
    """None where the layout is not known; then nothing is counted."""
    grouped_by: str | None = None
    """None where the images cannot be grouped, or need not be, for all are marked test."""
    images: int = 0
    """Images whose files are whole; what follows is about them."""
    groups: int = 0
    unlabelled: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    """Images of each defect type."""
    parts: dict[str, int] = field(default_factory=dict)
    """Images of each marked part; those of none under `unmarked`."""
    sizes: dict[str, int] = field(default_factory=dict)
    """WIDTHxHEIGHT to images."""
    masks: int = 0
    """Bad images with a mask that fits."""

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(f.level == "error" for f in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report's content, and how many of its findings are errors and warnings."""
        return {
            **asdict(self),
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
        }


def check(
    data: Path,
    group_by: str | None = None,
    format: Format = "auto",  # noqa: A002 -- the option's name
) -> Report:
    """Look at every image and mask of `data`, a marked test part included; raises nothing.

    What `load`, `split` or `load_mask` would refuse is an error, as are one picture under both
    labels and one picture in two marked parts.
    """
    try:
        listing = list_images(data, format)
    except DataError as error:
        return Report(str(data), (Finding("error", "layout", str(error)),))
    read, faults = read_images(listing.images)
    findings = [Finding("error", "layout", fault) for fault in listing.faults]
    findings += [Finding("error", "unreadable", fault) for fault in faults]
    findings += [Finding("warning", "note", note) for note in listing.notes]
    if listing.disputed:
        msg = (
            f"people, or the label and the verdict, disagree on {len(listing.disputed)} images; "
            f"the newest label counts: {some(listing.disputed)}"
        )
        images = tuple((name,) for name in listing.disputed)
        findings.append(Finding("warning", "disagreement", msg, images))
    samples, words = _group(listing, read, group_by, findings)
    masked = [s for s in samples if s.mask]
    mask_faults = _mask_faults(masked)
    findings += mask_faults
    findings += _duplicates(samples, read)
    findings += _near_duplicates(samples, read)
    if words is not None:
        findings += _split_faults(listing, samples, words)
    return Report(
        data=str(data),
        findings=tuple(sorted(findings, key=lambda f: f.level)),
        format=listing.layout,
        grouped_by=words,
        images=len(samples),
        groups=len({s.group for s in samples if s.group}),
        unlabelled=listing.unlabelled,
        labels=_count(s.label for s in samples),
        types=_count(s.kind for s in samples if s.kind),
        parts=_count(s.part or "unmarked" for s in samples),
        sizes=_count(f"{r.look.width}x{r.look.height}" for r in read),
        masks=len(masked) - len(mask_faults),
    )


def _count(values: Iterator[str]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return dict(Counter(values).most_common())


def _group(
    listing: Listing, read: list[Read], group_by: str | None, findings: list[Finding]
) -> tuple[tuple[Sample, ...], str | None]:
    """Group as `load` does what may be learned from, as `load_test` does what is marked test.

    Where that fails, all groups are empty: none is called a leak for want of one.
    """
    learned = [r for r in read if r.listed.part != "test"]
    test = [r for r in read if r.listed.part == "test"]
    try:
        judged = make_samples(test, group_test(listing, test)) if test else ()
        if test and not learned:
            msg = "all images are marked test: a model can be judged on them, not trained"
            findings.append(Finding("warning", "note", msg))
            return judged, None
        grouping = group_images(listing, learned, grouping_of(listing, group_by))
    except DataError as error:
        findings.append(Finding("error", "grouping", str(error)))
        blank = ("",) * len(read)
        return make_samples(read, Grouping(blank, blank, "")), None
    samples = (*make_samples(learned, grouping), *judged)
    return tuple(sorted(samples, key=lambda s: s.name)), grouping.words


def _mask_faults(masked: Sequence[Sample]) -> list[Finding]:
    """Return one finding for each mask that does not fit its image."""

    def fault(sample: Sample) -> Finding | None:
        try:
            load_mask(sample, 1, 1)
        except BlankMaskError as error:
            return Finding("warning", "mask", str(error), ((sample.name,),))
        except DataError as error:
            return Finding("error", "mask", str(error), ((sample.name,),))
        return None

    with ThreadPoolExecutor() as pool:
        return [f for f in pool.map(fault, masked) if f]


def _duplicates(samples: Sequence[Sample], read: Sequence[Read]) -> Iterator[Finding]:
    """Name pictures that are there more than once: the same pixels, whatever the file."""
    by_pixels: dict[str, list[Sample]] = defaultdict(list)
    for sample, one in zip(samples, read, strict=True):
        by_pixels[one.look.digest].append(sample)
    sets = [same for same in by_pixels.values() if len(same) > 1]
    conflicts = [same for same in sets if len({s.label for s in same}) > 1]
    parted = [same for same in sets if len({s.part for s in same}) > 1]
    others = [s for s in sets if s not in conflicts and s not in parted]
    kinds: tuple[tuple[Level, Topic, str, list[list[Sample]]], ...] = (
        ("error", "conflict", "labelled both good and bad; keep the right one", conflicts),
        ("error", "leak", "in different marked parts; keep it in one", parted),
        ("warning", "duplicate", "there more than once; it counts as often", others),
    )
    for level, topic, what, found in kinds:
        if found:
            names = tuple(tuple(s.name for s in same) for same in found)
            shown = some(" = ".join(same) for same in names)
            yield Finding(level, topic, f"the same picture is {what}: {shown}", names)


def _near_duplicates(samples: Sequence[Sample], read: Sequence[Read]) -> Iterator[Finding]:
    """Name pairs that look like one part and are apart: by label, by marked part, by group."""
    if len(samples) < 2:
        return
    similarity = similarities(np.stack([r.look.thumbnail for r in read]))
    cut = valley(similarity)
    alike = np.triu(similarity >= cut, 1) & _differ([r.look.digest for r in read])
    parted = _differ([s.part or "" for s in samples])
    kinds: tuple[tuple[Topic, str, NDArray[np.bool_]], ...] = (
        (
            "conflict",
            "are labelled good and bad: look at them",
            _differ([s.label for s in samples]),
        ),
        ("leak", "are in different marked parts: keep each part in one", parted),
        (
            "leak",
            "are in different groups: put them in one",
            ~parted & _differ(map(_whole, samples)),
        ),
    )
    for topic, what, apart in kinds:
        rows, columns = np.nonzero(alike & apart)
        order = np.argsort(-similarity[rows, columns], kind="stable")
        pairs = tuple((samples[rows[k]].name, samples[columns[k]].name) for k in order)
        if pairs:
            shown = some(" ~ ".join(pair) for pair in pairs)
            msg = (
                f"{len(pairs)} pairs that look like one part (similarity {cut:.2f} or more) {what}"
            )
            yield Finding("warning", topic, f"{msg}: {shown}", pairs)


def _whole(sample: Sample) -> str:
    """Return what no split may cut through: the group, or the marked test part as a whole."""
    return "" if sample.part == "test" else sample.group


def _differ(values: Iterable[str]) -> NDArray[np.bool_]:
    """Return for each pair whether its values differ, [N, N]."""
    codes = np.unique(list(values), return_inverse=True)[1]
    return np.asarray(codes[:, None] != codes[None, :])


def _split_faults(listing: Listing, samples: tuple[Sample, ...], words: str) -> Iterator[Finding]:
    """Say why `fit` could not cut the images into train, tune and test."""
    learned = tuple(s for s in samples if s.part != "test")
    try:
        split(DataSet(listing.root, listing.layout, words, learned), 0)
    except DataError as error:
        yield Finding("error", "split", str(error))
