"""`gallery.html`: the maps of several bundles of the same bad images, side by side."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ssn_agent.bundles.archive import Bundle
from ssn_agent.inference.calibration import calibrate
from ssn_agent.inference.scorer import Scorer
from ssn_trainer.data.images import drop_blank_masks
from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import Sample, load_test
from ssn_trainer.errors import DataError
from ssn_trainer.pack.bundle import used_digests
from ssn_trainer.pack.gallery import FULL, Painter, Tile
from ssn_trainer.pack.judge import judge
from ssn_trainer.pack.report import render_page

_IMAGES = 8


def draw_maps(
    bundles: Sequence[Bundle],
    data: Path,
    format: Format,  # noqa: A002 -- the option's name
    console: Console,
) -> bytes:
    """Return a page that needs nothing else: a line for each image, a column for each bundle.

    Bad images of `data` that no bundle was trained or tuned on, spread over defect types and names,
    whatever their scores; those with a mask where there are any. Raises DataError, BundleError,
    PackError, EngineError.
    """
    offered = load_test(data, format)
    for note in offered.notes:
        console.print(f"data: {note}", markup=False)
    used = frozenset[str]().union(*map(used_digests, bundles))
    bad = [s for s in offered.samples if s.label == "bad" and s.digest not in used]
    if not bad:
        msg = f"{data}: holds no bad image that these bundles were not trained or tuned on; add one"
        raise DataError(msg)
    drawable, _ = drop_blank_masks(bad)
    chosen = _spread([s for s in drawable if s.mask] or drawable)
    with console.status("drawing maps"):
        columns = [_tiles(bundle, chosen) for bundle in bundles]
    manifests = [bundle.manifest for bundle in bundles]
    return render_page("maps.html.j2", manifests=manifests, lines=list(zip(*columns, strict=True)))


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Choose a few, evenly over defect types and names."""
    ordered = sorted(samples, key=lambda s: (s.kind or "", s.name))
    shown = min(_IMAGES, len(ordered))
    return [ordered[(2 * k + 1) * len(ordered) // (2 * shown)] for k in range(shown)]


def _tiles(bundle: Bundle, samples: Sequence[Sample]) -> list[Tile]:
    scorer = Scorer(bundle)
    height, width = scorer.input.height, scorer.input.width
    judged = judge(scorer.score_inputs, samples, height, width, lambda _: None)
    published = calibrate(judged.scores, scorer.precision.score)
    painter = Painter(scorer.score_inputs, height, width, scorer.precision.map, FULL, masks=True)
    return [painter.tile(s, float(p)) for s, p in zip(samples, published, strict=True)]
