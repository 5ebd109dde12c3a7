"""The published layouts of KolektorSDD and KolektorSDD2. The masks tell which images are bad.

    ksdd      kosNN/PartM.jpg  kosNN/PartM_label.bmp (or .png)
    ksdd2     train/NNNNN.png  train/NNNNN_GT.png  test/NNNNN.png  test/NNNNN_GT.png

Tabernik et al., "Segmentation-based deep-learning approach for surface-defect detection" (2020);
Bozic et al., "Mixed supervision for surface-defect detection" (2021).
"""

from collections import Counter
from pathlib import Path

from ssn_trainer.data.listing import (
    UNTYPED,
    Listed,
    Listing,
    Part,
    folders,
    image_files,
    some,
    strays,
)

_LABEL_END = "_label"
_LABEL_SUFFIXES = (".bmp", ".png")
_TRUTH_END = "_GT"
_COPY = " (copy)"
"""The archive of KolektorSDD2 holds a stray pair, `10301 (copy).png` and `10301_GT (copy).png`."""


def list_ksdd(data: Path) -> Listing:
    """KolektorSDD: a folder an item, which is also the group; no label file means good."""
    faults: list[str] = []
    images = []
    for folder in folders(data):
        files = image_files(folder, faults)
        masks: dict[Path, Path] = {}
        for path in files:
            if not _is_label(path):
                continue
            stem = path.with_name(path.stem.removesuffix(_LABEL_END))
            if stem in masks:
                faults.append(f"{path}: a second mask beside {masks[stem]}; remove one of the two")
            masks[stem] = path
        photographs = [p for p in files if not _is_label(p)]
        faults += _misfits(data, photographs, masks)
        for path in photographs:
            mask = masks.get(path.with_suffix(""))
            images.append(
                Listed(
                    path=path,
                    name=path.relative_to(data).as_posix(),
                    label=None if mask else "good",
                    kind=UNTYPED if mask else None,
                    mask=mask,
                    group=folder.name,
                    part=None,
                )
            )
    faults += strays(data, folders(data))
    images.sort(key=lambda s: s.name)
    return Listing(
        data, "ksdd", "kosNN/", tuple(images), tuple(faults), groups_by="the items' folders"
    )


def list_ksdd2(data: Path) -> Listing:
    """KolektorSDD2: two marked parts; each image has a mask, which marks nothing if it is good."""
    faults: list[str] = []
    notes: list[str] = []
    images = []
    parts: tuple[Part, Part] = ("train", "test")
    for part in parts:
        files = image_files(data / part, faults)
        copies = [p for p in files if p.stem.endswith(_COPY)]
        if copies:
            notes.append(f"passed over as copies of others by their names: {some(copies)}")
        originals = [p for p in files if p not in copies]
        masks = {
            p.with_name(p.stem.removesuffix(_TRUTH_END)): p
            for p in originals
            if p.stem.endswith(_TRUTH_END)
        }
        photographs = [p for p in originals if not p.stem.endswith(_TRUTH_END)]
        faults += _misfits(data, photographs, masks)
        maskless = [p for p in photographs if p.with_suffix("") not in masks]
        if maskless:
            faults.append(
                f"{data / part}: images without NAME{_TRUTH_END}.png: {some(maskless)}; "
                "it tells whether they are good: add it"
            )
        images += [
            Listed(p, p.relative_to(data).as_posix(), None, UNTYPED, mask, None, part)
            for p in photographs
            if (mask := masks.get(p.with_suffix("")))
        ]
    faults += strays(data, [data / part for part in parts])
    images.sort(key=lambda s: s.name)
    return Listing(data, "ksdd2", "train/", tuple(images), tuple(faults), tuple(notes))


def _is_label(path: Path) -> bool:
    return path.stem.endswith(_LABEL_END) and path.suffix.lower() in _LABEL_SUFFIXES


def _misfits(data: Path, photographs: list[Path], masks: dict[Path, Path]) -> list[str]:
    """Name masks without an image, and images that would share a mask."""
    faults = []
    stems = Counter(p.with_suffix("") for p in photographs)
    orphans = [m.relative_to(data) for stem, m in masks.items() if stem not in stems]
    if orphans:
        faults.append(f"{data}: masks without an image: {some(orphans)}; add the images")
    doubled = [stem.relative_to(data) for stem, n in stems.items() if n > 1]
    if doubled:
        faults.append(f"{data}: several images share one name and mask: {some(doubled)}; rename")
    return faults
