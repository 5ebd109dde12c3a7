"""How many good and bad pictures are called unfit to judge, and how many disturbed ones are.

    python benchmarks/fitness.py DATA [--only NAME ...]

DATA holds `magnetic_tile`, `ksdd` and `mvtec_screw`; `drawn` is the demo's line. Each picture is
checked against the good training images of a fold that holds no picture of its part (Screw: of the
marked training part). Bounds come from those alone. Disturbed are the good pictures, in the
camera's own pixels; a blur leaves the sensor's noise as it is, so a level of it is added.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from ssn_agent.bundles.reference import Reference
from ssn_agent.demo.line import ProductionLine
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.inference.fitness import Fitness, describe_pictures, measure
from ssn_agent.inference.settings import CheckName, FitnessSettings
from ssn_trainer.data.folds import make_folds, read_folds
from ssn_trainer.data.images import load_image
from ssn_trainer.data.samples import Sample, load, load_all, load_test

CHECKS = FitnessSettings().checks
SIZES = {
    "magnetic_tile": (256, 256),
    "ksdd": (512, 208),
    "mvtec_screw": (320, 320),
    "drawn": (192, 256),
}
"""Height and width of the network's input."""
DRAWN = 150
Named = tuple[Pixels, str]
"""A picture and the part that it shows."""
Trial = tuple[list[Named], list[Pixels], list[Pixels]]
"""Good pictures to learn from, then good and bad ones to check."""


def trials(name: str, data: Path) -> Iterator[Trial]:
    """Yield the folds of a data set."""
    if name == "drawn":
        yield _drawn()
    elif name == "mvtec_screw":
        known, unseen = load(data / name, ".*").samples, load_test(data / name).samples
        yield _trial(known, unseen)
    else:
        dataset = load_all(data / name)
        given = data / name / "folds.json"
        for fold in read_folds(given, dataset) if given.exists() else make_folds(dataset, 5, 0):
            leaks = {sample.name for sample in fold.leaks}
            yield _trial(fold.split.train, [s for s in fold.split.test if s.name not in leaks])


def _trial(known: Sequence[Sample], unseen: Sequence[Sample]) -> Trial:
    def of(label: str) -> list[Pixels]:
        return [load_image(s) for s in unseen if s.label == label]

    good = [(load_image(s), s.group) for s in known if s.label == "good"]
    return good, of("good"), of("bad")


def _drawn() -> Trial:
    lines = [
        ProductionLine(2, 0, "train"),
        ProductionLine(2000, 0, "serve"),
        ProductionLine(2001, 1, "serve"),
    ]
    known, good, bad = ([line.part(i).image for i in range(DRAWN)] for line in lines)
    return [(image, str(i)) for i, image in enumerate(known)], good, bad


def lit(image: Pixels, gain: float) -> Pixels:
    """Return the picture in so much light."""
    return _levels(image.astype(np.float32) * gain)


def blurred(image: Pixels, sigma: float, height: int) -> Pixels:
    """Return the picture blurred by so many pixels of the network's, then with noise."""
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma * image.shape[0] / height)
    return _levels(soft + np.random.default_rng(0).standard_normal(image.shape))


def shifted(image: Pixels, share: float) -> Pixels:
    """Return what a camera turned to the side sees; what is new there is mirrored."""
    columns = round(share * image.shape[1])
    wide = cv2.copyMakeBorder(image, 0, 0, 0, columns, cv2.BORDER_REFLECT_101)
    return np.asarray(wide[:, columns:], np.uint8)


def resized(image: Pixels, scale: float) -> Pixels:
    """Return the picture of a camera with fewer pixels."""
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale), np.uint8)


def _levels(values: object) -> Pixels:
    return np.asarray(np.clip(np.rint(np.asarray(values)), 0, 255), np.uint8)


def disturbances(height: int) -> dict[str, tuple[CheckName, Callable[[Pixels], Pixels]]]:
    """Return the disturbances with the reason that each should give."""
    return {
        "light x 0.15": ("dark", partial(lit, gain=0.15)),
        "light x 4": ("blown_out", partial(lit, gain=4)),
        "blur of 1 pixel": ("out_of_focus", partial(blurred, sigma=1, height=height)),
        "blur of 2 pixels": ("out_of_focus", partial(blurred, sigma=2, height=height)),
        "blur of 4 pixels": ("out_of_focus", partial(blurred, sigma=4, height=height)),
        "moved by 10 %": ("moved", partial(shifted, share=0.1)),
        "moved by 25 %": ("moved", partial(shifted, share=0.25)),
        "0.8 of the size": ("wrong_size", partial(resized, scale=0.8)),
    }


def run(name: str, data: Path) -> Table:
    """Check the pictures of a data set."""
    size = SIZES[name]
    changes = disturbances(size[0])
    flagged: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    off: Counter[str] = Counter()
    folds = 0
    for known, good, bad in trials(name, data):
        folds += 1
        measured = [measure(to_network_input(i, *size), *i.shape[:2]) for i, _ in known]
        reference = Reference(pictures=describe_pictures(measured, [part for _, part in known]))
        alone = {check: Fitness(reference, (check,)) for check in CHECKS}
        off.update(check for fitness in alone.values() for check in fitness.off)

        def gives(check: CheckName, image: Pixels, by: dict[CheckName, Fitness] = alone) -> bool:
            row = to_network_input(image, *size)
            return by[check].unfit(row, *image.shape[:2]) is not None

        for what, images in (("good", good), ("bad", bad)):
            totals[what] += len(images)
            flagged.update(f"{what} {c}" for c in CHECKS for image in images if gives(c, image))
        for what, (check, change) in changes.items():
            flagged[what] += sum(gives(check, change(image)) for image in good)
    table = Table("pictures", *CHECKS, title=f"{name}, folds: {folds}")
    made = {check for check in CHECKS if off[check] < folds}
    for what in ("good", "bad"):
        counts = [str(flagged[f"{what} {check}"]) if check in made else "off" for check in CHECKS]
        table.add_row(f"{what}, {totals[what]}", *counts)
    for what, (wanted, _) in changes.items():
        share = f"{flagged[what] / totals['good']:.1%}" if wanted in made else "off"
        table.add_row(what, *(share if check == wanted else "" for check in CHECKS))
    return table


def main() -> None:
    """Print a table for each data set."""
    cv2.setNumThreads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=SIZES, default=list(SIZES))
    options = parser.parse_args()
    for name in options.only:
        Console(width=120).print(run(name, options.data))


if __name__ == "__main__":
    main()
