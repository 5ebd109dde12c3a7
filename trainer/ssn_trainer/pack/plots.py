"""Curves and histograms of a report, as SVG in data URIs, and the trade-off plot as SVG.

No text from outside is drawn, but for the names of runs in the trade-off plot. Middle gray and a
clear ground: they are read on light and on dark.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from ssn_agent.inference.calibration import PUBLISHED_THRESHOLD
from ssn_trainer.measure.published import SCREW, Row

_GRAY = "#808080"
_GOOD = "#2b8cbe"
_BAD = "#e6550d"
_STYLE: Any = {
    "axes.edgecolor": _GRAY,
    "axes.labelcolor": _GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _GRAY,
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": _GRAY,
    "svg.hashsalt": "report",  # element names that are random otherwise
    "xtick.color": _GRAY,
    "ytick.color": _GRAY,
}
_BINS = 40
_SQUARE, _WIDE = (3.6, 3.4), 7.4
"""Inches."""


def draw_roc(bad: NDArray[np.bool_], scores: NDArray[Any]) -> str:
    """Draw found bad images over rejected good ones, with a dot at the threshold.

    bad: bool [N], both classes are there; scores: published ones [N].
    """
    alarms, found, _ = roc_curve(bad, scores)
    with _style():
        figure, axes = _square("false-reject rate (good images)", "share of bad images found")
        axes.plot([0, 1], [0, 1], ":", color=_GRAY, linewidth=1)
        axes.plot(alarms, found, color=_GOOD)
        fails = scores >= PUBLISHED_THRESHOLD
        _mark_threshold(axes, float(fails[~bad].mean()), float(fails[bad].mean()), "lower right")
        return _uri(figure)


def draw_precision_recall(bad: NDArray[np.bool_], scores: NDArray[Any]) -> str:
    """Draw the precision over the share of bad images found; arguments as for `draw_roc`."""
    precision, found, _ = precision_recall_curve(bad, scores, drop_intermediate=True)
    with _style():
        figure, axes = _square("share of bad images found (recall)", "precision")
        axes.axhline(float(bad.mean()), linestyle=":", color=_GRAY, linewidth=1)
        axes.plot(found, precision, color=_GOOD, drawstyle="steps-post")
        fails = scores >= PUBLISHED_THRESHOLD
        if fails.any():
            _mark_threshold(axes, float(fails[bad].mean()), float(bad[fails].mean()), "lower left")
        return _uri(figure)


def draw_histograms(bad: NDArray[np.bool_], scores: NDArray[Any]) -> str:
    """Draw how many images of each label have which published score, [N] each."""
    edges = np.linspace(0, 1, _BINS + 1)  # 0.5 is an edge: no bar stands across the threshold
    labels = [("good", _GOOD, ~bad), ("bad", _BAD, bad)]
    there = [label for label in labels if label[2].any()]
    with _style():
        figure = Figure((_WIDE, 0.4 + 1.4 * len(there)), layout="constrained")
        rows = figure.subplots(len(there), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, colour, which) in zip(rows, there, strict=True):
            axes.hist(scores[which], edges, color=colour)
            axes.axvline(PUBLISHED_THRESHOLD, color=_GRAY, linestyle="--", linewidth=1)
            axes.set_ylabel(f"{label} images")
            axes.yaxis.get_major_locator().set_params(integer=True)
        rows[-1].set(xlabel="published score; FAIL from 0.5 on", xlim=(0, 1))
        return _uri(figure)


def draw_trade_off(rows: Sequence[Row]) -> bytes | None:
    """Draw I-AUROC over latency as an SVG file: our runs left, what is published of Screw right.

    Each has its own axis of latency, for they are of different machines; the numbers are those of
    the rows, from 1. None where no run of ours has both figures.
    """
    there = [
        (number, row)
        for number, row in enumerate(rows, 1)
        if row.i_auroc is not None and row.latency_ms is not None
    ]
    ours = [(n, row) for n, row in there if not row.published]
    published = [(n, row) for n, row in there if row.published and row.judged_on == SCREW]
    if not ours:
        return None
    with _style():
        figure = Figure((_WIDE, 3.6 + 0.2 * len(ours)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_title("our runs, each on its own data")
        right.set_title(f"published, {SCREW}")
        left.set_ylabel("I-AUROC")
        for axes, colour, points in ((left, _GOOD, ours), (right, _BAD, published)):
            for number, row in points:
                # The number in front keeps a name from being taken for a hidden one or for maths.
                name = f"{number}  {row.run}, {row.model}".replace("$", r"\$")
                axes.plot([row.latency_ms], [row.i_auroc], "o", color=colour, label=name)
                place = (row.latency_ms or 0.0, row.i_auroc or 0.0)
                axes.annotate(str(number), place, (5, 4), textcoords="offset points", color=colour)
            machines = " and ".join(sorted({row.timed_on or "" for _, row in points}))
            axes.margins(0.15)
            axes.set(xlabel=f"latency in ms: {machines}")
            axes.set_xlim(left=0)
        figure.legend(loc="outside lower left")
        return _svg(figure)


@contextmanager
def _style() -> Iterator[None]:
    """Ours alone: what a user has set for matplotlib does not reach a report."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(_SQUARE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _mark_threshold(
    axes: Axes, x: float, y: float, place: Literal["lower left", "lower right"]
) -> None:
    axes.plot([x], [y], "o", color=_BAD, label="at the threshold", clip_on=False)
    axes.legend(loc=place)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(_svg(figure)).decode()
