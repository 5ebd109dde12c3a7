"""Curves and histograms of a report, as SVG in data URIs.

No text from outside is drawn. Middle gray and a clear ground: they are read on light and on dark.
"""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from ssn_agent.inference.calibration import PUBLISHED_THRESHOLD

_GRAY = "#808080"
_GOOD = "#2b8cbe"
_BAD = "#e6550d"
_STYLE: Any = {
    "axes.edgecolor": _GRAY,
    "axes.labelcolor": _GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
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


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
