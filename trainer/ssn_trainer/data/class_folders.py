"""Layouts with a folder a class.

    folder    good/NAME.jpg  <defect type>/NAME.jpg  <defect type>/NAME_mask.png
    mvtec     train/good/NAME.png  test/good/  test/<defect type>/
              ground_truth/<defect type>/NAME_mask.png

In both a mask may lie beside its image, class folders may have folders inside, and hidden files
are passed over. What the layout does not foresee is a fault, never dropped.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ssn_trainer.data.listing import Listed, Listing, Part, folders, image_files, some, strays

MASK_END = "_mask.png"


def list_folder(data: Path) -> Listing:
    """Class folders: `good` and, beside it, one folder a defect type."""
    faults: list[str] = []
    classes = folders(data)
    images = [s for f in classes for s in _class_folder(data, f, None, None, faults)]
    faults += strays(data, classes)
    return Listing(data, "folder", "good/", _by_name(images), tuple(faults))


def list_mvtec(data: Path) -> Listing:
    """MVTec AD: `train/good`, `test/<type>`, masks in `ground_truth/<type>`."""
    truth = data / "ground_truth"
    parts: tuple[Part, Part] = ("train", "test")
    faults: list[str] = []
    images: list[Listed] = []
    for part in parts:
        for folder in folders(data / part):
            masks = truth / folder.name if part == "test" else None
            images += _class_folder(data, folder, part, masks, faults)
    faults += [
        f"{folder}: masks for images that are not there; add test/{folder.name}/"
        for folder in folders(truth)
        if not (data / "test" / folder.name).is_dir()
    ]
    faults += strays(data, [f for name in (*parts, truth.name) for f in folders(data / name)])
    return Listing(data, "mvtec", "train/good/", _by_name(images), tuple(faults))


def _by_name(images: list[Listed]) -> tuple[Listed, ...]:
    return tuple(sorted(images, key=lambda s: s.name))


def _class_folder(
    data: Path, folder: Path, part: Part | None, masks: Path | None, faults: list[str]
) -> Iterator[Listed]:
    """Images of one class folder; `masks` is a second place where its masks may lie."""
    files = image_files(folder, faults)
    images = [p for p in files if not p.name.endswith(MASK_END)]
    stems = Counter(p.with_suffix("") for p in images)
    doubled = [stem.relative_to(data) for stem, n in stems.items() if n > 1]
    if doubled:
        faults.append(f"{data}: several images share one name and mask: {some(doubled)}; rename")
    by_stem = {
        p.parent / p.name.removesuffix(MASK_END): p for p in files if p.name.endswith(MASK_END)
    }
    if masks is not None:
        _add_truth(folder, masks, by_stem, faults)
    orphans = [m.relative_to(data) for stem, m in by_stem.items() if stem not in stems]
    if orphans:
        faults.append(
            f"{data}: masks without an image: {some(orphans)}; add the images or remove them"
        )
    good = folder.name == "good"
    if good and by_stem:
        faults.append(
            f"{data}: masks for good images: {some(by_stem.values())}; a good image has no "
            "defect: remove the masks, or move the images to a defect folder"
        )
    for path in images:
        yield Listed(
            path=path,
            name=path.relative_to(data).as_posix(),
            label="good" if good else "bad",
            kind=None if good else folder.name,
            mask=None if good else by_stem.get(path.with_suffix("")),
            group=None,
            part=part,
        )


def _add_truth(folder: Path, masks: Path, by_stem: dict[Path, Path], faults: list[str]) -> None:
    """Add the masks in MVTec's `ground_truth/<type>` to those that lie beside their images."""
    files = image_files(masks, faults)
    strangers = [p for p in files if not p.name.endswith(MASK_END)]
    if strangers:
        faults.append(f"{masks}: not named NAME{MASK_END}: {some(strangers)}; rename them")
    for mask in files:
        stem = folder / mask.relative_to(masks).parent / mask.name.removesuffix(MASK_END)
        if mask in strangers:
            continue
        if stem in by_stem:
            faults.append(f"{mask}: a second mask beside {by_stem[stem]}; remove one of the two")
        else:
            by_stem[stem] = mask
