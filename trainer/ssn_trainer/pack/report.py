"""`report.html`: how a model was made and what it can do, in one file that needs nothing else."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from ssn_agent.inference.calibration import PUBLISHED_THRESHOLD, calibrate
from ssn_contract.manifest import Calibration, RateLimit, Threshold
from ssn_trainer.data.samples import DataSet
from ssn_trainer.data.split import Split
from ssn_trainer.measure.bounds import upper_bound
from ssn_trainer.measure.limits import of_parts, unsupported
from ssn_trainer.pack.gallery import Painter, make_galleries
from ssn_trainer.pack.judge import Figures, Judged
from ssn_trainer.pack.plots import draw_histograms, draw_precision_recall, draw_roc

_FIGURES = {
    "i_auroc": ("I-AUROC", "how surely a bad image scores above a good one"),
    "ap_det": ("AP-det", "average precision of bad images"),
    "f1_max": ("F1-max", "F1 of bad at the threshold that is best for these very images"),
    "p_auroc": ("P-AUROC", "as I-AUROC, for pixels"),
    "aupro": ("AUPRO", "overlap with each defect, up to 30 % of false pixels"),
    "ap_loc": ("AP-loc", "average precision of defect pixels"),
}
_LIBRARIES = ("torch", "timm", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Making:
    """How a network was made, as far as the pixels and the manifest do not tell."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """What was chosen, in the order in which it is shown."""
    seconds: float | None = None
    """From the start to the packing; None: not measured."""


@dataclass(frozen=True)
class Facts:
    """What a report is about."""

    manifest: Mapping[str, Any]
    """Its fields; entries and metrics are not looked at."""
    making: Making
    dataset: DataSet
    split: Split
    seed: int
    threshold: Threshold
    calibration: Calibration
    """Of the score."""
    judged: Judged
    """The test part, or the tune part where there is no test part."""
    on_test: bool
    figures: Figures
    """Those of the test part."""
    painter: Painter


@dataclass(frozen=True)
class TypeRow:
    """What became of the images of one kind; rates are per part."""

    kind: str
    parts: int
    images: int
    failed_images: int
    failed_parts: int
    """Bad parts all of whose images fail; good parts with an image that fails."""
    share: float
    """Of the parts, those that failed."""
    bound: float
    """One-sided, 95 %: from below for bad parts, from above for good ones (Clopper-Pearson)."""


def render(facts: Facts) -> bytes:
    """Return the report as UTF-8. Same facts, same bytes. Raises DataError, EngineError."""
    judged = facts.judged
    published = calibrate(judged.scores, facts.calibration)
    bad = judged.of("bad")
    both = bool(bad.any() and not bad.all())
    return render_page(
        "report.html.j2",
        manifest=facts.manifest,
        on_test=facts.on_test,
        figures=_figures(facts.figures),
        remark=facts.figures.remark,
        roc=draw_roc(bad, published) if both else None,
        precision_recall=draw_precision_recall(bad, published) if both else None,
        histograms=draw_histograms(bad, published),
        threshold=facts.threshold,
        raw=facts.calibration.threshold,
        limits=_limits(facts.threshold),
        unsupported=unsupported(facts.threshold),
        defects=_defect_rows(judged, published),
        all_defects=type_row("all", judged, published, bad),
        good=type_row("good", judged, published, ~bad),
        galleries=make_galleries(facts.painter, judged, published),
        outlines=facts.painter.masks,
        dataset=facts.dataset,
        seed=facts.seed,
        counts=_counts(facts.split),
        settings=facts.making.settings,
        seconds=facts.making.seconds,
        versions=_versions(facts.manifest),
    )


def render_page(template: str, **values: object) -> bytes:
    """Return a page of this folder's templates, as UTF-8."""
    environment = Environment(
        loader=PackageLoader("ssn_trainer", "pack"),
        autoescape=True,  # names of files and defect types come from outside
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(values)
    # A name that is no UTF-8 on the disk is shown with its bytes.
    return text.encode("utf-8", "backslashreplace")


def type_row(
    kind: str, judged: Judged, published: NDArray[Any], which: NDArray[np.bool_]
) -> TypeRow | None:
    """Count what became of the images `which` [N], all good or all bad; None where there are none.

    published: calibrated scores [N].
    """
    samples = [s for s, w in zip(judged.samples, which, strict=True) if w]
    if not samples:
        return None
    good = samples[0].label == "good"
    scores = published[which].astype(np.float64)
    parts = of_parts(scores, [s.group for s in samples], highest=good)
    failed = int((parts >= PUBLISHED_THRESHOLD).sum())
    wrong = failed if good else parts.size - failed
    worst = float(upper_bound(wrong, parts.size))
    return TypeRow(
        kind=kind,
        parts=parts.size,
        images=len(samples),
        failed_images=int((scores >= PUBLISHED_THRESHOLD).sum()),
        failed_parts=failed,
        share=failed / parts.size,
        bound=worst if good else 1 - worst,
    )


def _defect_rows(judged: Judged, published: NDArray[Any]) -> list[TypeRow]:
    """One row for each defect type, by name."""
    bad = judged.of("bad")
    kinds = np.array([s.kind or "" for s in judged.samples], object)
    rows = [
        type_row(kind, judged, published, bad & (kinds == kind)) for kind in sorted(set(kinds[bad]))
    ]
    return [row for row in rows if row]


def _figures(found: Figures) -> list[tuple[str, str, float, tuple[float, float] | None]]:
    """Name, meaning, value and interval of each figure that there is."""
    rows = []
    for key, (name, meaning) in _FIGURES.items():
        value = found.values[key]
        if value is not None:
            rows.append((name, meaning, value, found.intervals[key]))
    return rows


def _limits(threshold: Threshold) -> list[tuple[str, RateLimit]]:
    stated = (("false rejects", threshold.false_reject), ("escapes", threshold.escape))
    return [(name, limit) for name, limit in stated if limit is not None]


def _counts(split: Split) -> list[tuple[str, list[tuple[int, int]]]]:
    """For good images and for each defect type: images and parts in train, tune and test."""
    parts = (split.train, split.tune, split.test)
    kinds = sorted({(s.label == "bad", s.kind or "") for part in parts for s in part})
    rows = []
    for is_bad, kind in kinds:
        groups = [
            [s.group for s in part if (s.label == "bad", s.kind or "") == (is_bad, kind)]
            for part in parts
        ]
        rows.append((kind if is_bad else "good", [(len(g), len(set(g))) for g in groups]))
    return rows


def _versions(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {
        "trainer": manifest["trainer"],
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        # Distributions of several names hold these.
        "OpenCV": cv2.__version__,
        "ONNX Runtime": ort.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
