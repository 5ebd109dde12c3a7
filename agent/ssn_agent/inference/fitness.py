"""Is a picture fit to judge? What is measured of one, and what good images allow: no I/O here.

A dead lamp is not five hundred defects: an unfit picture is INVALID for a reason, and not scored.
It is measured as the network sees it. Bounds come from the bundle's good training images alone:

- A figure may lie beyond the furthest of them by as much as that one lies from their median. Of n
  images a further good one is beyond the furthest with a probability of about 1 / n; as far again
  leaves room for days unlike theirs. Brightness and sharpness change by factors: in logarithms.
- Where they are all alike, a bound keeps its distance from what a defect or a warmer lamp does:
  half or twice as bright, a quarter of the picture more black or saturated, half as sharp, a
  sixteenth of its side away. What is less than that is the model's to judge.
- Under `MIN_IMAGES` of them, nothing is said.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.bundles.reference import VIEW_PX, Pictures, Reference, Spread, View
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.settings import CheckName
from ssn_contract.messages import InvalidReason

MIN_IMAGES = 20
"""With fewer the furthest says little: a further one is beyond it more often than 1 in 20."""
BLACK = 4
SATURATED = 251
"""Gray levels up to which, and from which on, a pixel tells nothing."""
MOST_SHIFT = 0.15
"""Of a side. Where parts lie further apart, a moved view is not told from a moved part."""
_BRIGHTER = math.log(2)
_SOFTER = math.log(2)
_BLANK = 0.25
_SHIFT = 1 / 16
_FITS = 0.5
"""Of the worst match among the good images: below it nothing is found again, wherever it is."""
_FOLDS = 5
_CELL_PX = 8
_PLAIN = 16
"""Variance in gray levels of a cell that counts half: four levels are texture, one is noise."""
_LEAST_CELLS = 0.5
_NO_DETAIL = math.log(0.01)
"""What a flat picture has."""

FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What is measured of one picture."""

    width: int
    """In pixels, as `height`: before it was made the network's input."""
    height: int
    brightness: float
    """Mean gray level."""
    black: float
    """Share of the pixels up to `BLACK`."""
    saturated: float
    """Share of the pixels from `SATURATED` on."""
    sharpness: float
    """How much of the detail is fine; see `_sharpness`."""
    view: FloatMap
    """[VIEW_PX, VIEW_PX]: the picture made small, with mean 0 and standard deviation 1."""


def measure(row: Pixels, height: int, width: int) -> Measured:
    """Measure the network's input, uint8 RGB [H, W, 3], made of a region of height x width."""
    gray = cv2.cvtColor(row, cv2.COLOR_RGB2GRAY)
    half = gray.shape[1] // 2, gray.shape[0] // 2
    # Means of 2 x 2: a quarter of the work, and most of the sensor's noise is out.
    gray = np.asarray(cv2.resize(gray, half, interpolation=cv2.INTER_AREA), np.uint8)
    counts = cv2.calcHist([gray], [0], None, [256], [0, 256])
    shares = counts.ravel().astype(np.float64) / gray.size
    small = cv2.resize(gray, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA)
    mean, deviation = cv2.meanStdDev(small)
    return Measured(
        width=width,
        height=height,
        brightness=float(shares @ _LEVELS),
        black=float(shares[: BLACK + 1].sum()),
        saturated=float(shares[SATURATED:].sum()),
        sharpness=_sharpness(gray.astype(np.float32)),
        view=((small - mean) / (deviation + 1)).astype(np.float32),
    )


def _sharpness(gray: FloatMap) -> float:
    """Return the logarithm of the Laplacian's variance over that of the gray levels, both local.

    That ratio knows neither light nor contrast. It is taken in cells, of which each counts by how
    much there is to be seen in it, and the median of them tells: a defect is in some cells, a lens
    out of focus in all.
    """
    fine = cv2.Laplacian(gray, cv2.CV_32F)
    size = max(1, gray.shape[1] // _CELL_PX), max(1, gray.shape[0] // _CELL_PX)
    fine_power, power, mean = (
        cv2.resize(values, size, interpolation=cv2.INTER_AREA).ravel()
        for values in (cv2.multiply(fine, fine), cv2.multiply(gray, gray), gray)
    )
    variance = np.maximum(power - mean**2, 0)
    detail = np.log((fine_power + 0.01) / (variance + 1))
    weight = variance / (variance + _PLAIN)
    order = detail.argsort()
    sums = weight[order].cumsum()
    if sums[-1] < _LEAST_CELLS:
        return _NO_DETAIL
    return float(detail[order][sums.searchsorted(sums[-1] / 2)])


def describe_pictures(measured: Sequence[Measured], groups: Sequence[str]) -> Pictures:
    """Return what the good images have in common; images of one part share a group."""

    def spread(of: Callable[[Measured], float]) -> Spread:
        return _spread([of(m) for m in measured])

    return Pictures(
        images=len(measured),
        width=spread(lambda m: m.width),
        height=spread(lambda m: m.height),
        brightness=spread(lambda m: m.brightness),
        black=spread(lambda m: m.black),
        saturated=spread(lambda m: m.saturated),
        sharpness=spread(lambda m: m.sharpness),
        view=_describe_view(np.stack([m.view for m in measured]), groups),
    )


class Fitness:
    """What a picture must keep to."""

    def __init__(self, reference: Reference, wanted: Sequence[CheckName]) -> None:
        """Work out the bounds of the checks that are wanted."""
        pictures = reference.pictures
        self.bounds: Bounds | None = None
        """None: too little is known of good images."""
        self.seen: Measured | None = None
        """What was measured of the picture that `unfit` looked at last; None: nothing was."""
        unsupported: Mapping[InvalidReason, str]
        if pictures is None:
            unsupported = dict.fromkeys(_CHECKS, "the bundle does not say how good images look")
        elif pictures.images < MIN_IMAGES:
            few = f"{pictures.images} good images, {MIN_IMAGES} are needed"
            unsupported = dict.fromkeys(_CHECKS, few)
        else:
            self.bounds = Bounds(pictures)
            unsupported = self.bounds.unsupported
        asked = [check for check in _CHECKS if check.value in wanted]
        self.off = {check.value: unsupported[check] for check in asked if check in unsupported}
        """Checks that are wanted and cannot be made, and why."""
        self.checks = tuple(check for check in asked if check not in unsupported)
        """Those that are made."""

    def unfit(self, row: Pixels, height: int, width: int) -> InvalidReason | None:
        """Say why a picture cannot be judged, or None; see `measure`."""
        if not self.checks or self.bounds is None:
            return None
        self.seen = seen = measure(row, height, width)
        return next((c for c in self.checks if _CHECKS[c](self.bounds, seen)), None)


class Bounds:
    """What follows from the good images."""

    def __init__(self, good: Pictures) -> None:
        """Work it out."""
        self.good = good
        self._width, self._height = (
            (_below(size, 0.0), _above(size, 0.0)) for size in (good.width, good.height)
        )
        bright = _log(good.brightness)
        self.darkest = math.exp(_below(bright, _BRIGHTER))
        self.brightest = math.exp(_above(bright, _BRIGHTER))
        self.black = _above(good.black, _BLANK)
        self.saturated = _above(good.saturated, _BLANK)
        self.softest = _below(good.sharpness, _SOFTER)
        self.unsupported: dict[InvalidReason, str] = {}
        if self.darkest < 1 and self.black >= 1:
            self.unsupported[InvalidReason.DARK] = "good images are nearly black"
        if self.brightest >= 255 and self.saturated >= 1:
            self.unsupported[InvalidReason.BLOWN_OUT] = "good images are nearly blown out"
        if self.softest < _NO_DETAIL:
            self.unsupported[InvalidReason.OUT_OF_FOCUS] = "good images show too little detail"
        self._found: tuple[Measured, tuple[float, float]] | None = None
        self.furthest = math.inf
        if good.view is None:
            self.unsupported[InvalidReason.MOVED] = "no good images of different parts"
        else:
            pixels = np.frombuffer(good.view.pixels, np.uint8)
            # flat [VIEW_PX * VIEW_PX] -> [VIEW_PX, VIEW_PX]
            self._view = _spectrum(_unpacked(pixels.reshape(VIEW_PX, VIEW_PX)))
            self._match = _FITS * good.view.match.lowest
            self.furthest = max(_above(good.view.shift, 0.0), _SHIFT)
            if self.furthest > MOST_SHIFT:
                self.unsupported[InvalidReason.MOVED] = "good images differ freely in their view"

    def wrong_size(self, m: Measured) -> bool:
        """Another camera, another lens mode, another region."""
        (narrowest, widest), (lowest, highest) = self._width, self._height
        return not (narrowest <= m.width <= widest and lowest <= m.height <= highest)

    def dark(self, m: Measured) -> bool:
        """A dead lamp, a closed shutter."""
        return m.brightness < self.darkest or m.black > self.black

    def blown_out(self, m: Measured) -> bool:
        """Foreign light, an exposure that is too long."""
        return m.brightness > self.brightest or m.saturated > self.saturated

    def out_of_focus(self, m: Measured) -> bool:
        """A lens that was turned, fog, grease."""
        return m.sharpness < self.softest

    def moved(self, m: Measured) -> bool:
        """A camera that was knocked: what good images show is found again, elsewhere."""
        shift = self.shift(m)
        return shift is not None and shift > self.furthest

    def shift(self, m: Measured) -> float | None:
        """How far the view lies from the good images', in sides; None: it is found nowhere.

        Not where `unsupported` has MOVED. The last picture's is remembered.
        """
        if self._found is None or self._found[0] is not m:
            self._found = m, _displacement(self._view, m.view)
        shift, match = self._found[1]
        return shift if match >= self._match else None


_CHECKS: dict[InvalidReason, Callable[[Bounds, Measured], bool]] = {
    InvalidReason.WRONG_SIZE: Bounds.wrong_size,
    InvalidReason.DARK: Bounds.dark,
    InvalidReason.BLOWN_OUT: Bounds.blown_out,
    InvalidReason.OUT_OF_FOCUS: Bounds.out_of_focus,
    InvalidReason.MOVED: Bounds.moved,
}
"""In this order: what is dark is neither sharp nor where it was."""


def _below(spread: Spread, least: float) -> float:
    return spread.lowest - max(spread.median - spread.lowest, least)


def _above(spread: Spread, least: float) -> float:
    return spread.highest + max(spread.highest - spread.median, least)


def _log(spread: Spread) -> Spread:
    lowest, median, highest = (
        math.log(max(value, 0.5)) for value in (spread.lowest, spread.median, spread.highest)
    )
    return Spread(lowest=lowest, median=median, highest=highest)


def _spread(values: Sequence[float]) -> Spread:
    lowest, median, highest = (float(v) for v in np.quantile(values, (0, 0.5, 1)))
    return Spread(lowest=lowest, median=median, highest=highest)


def _describe_view(views: FloatMap, groups: Sequence[str]) -> View | None:
    """Compare each image with the mean of those of other parts: it would find itself again."""
    names = sorted(set(groups))
    if len(names) < 2:
        return None
    places = {name: place * _FOLDS // len(names) for place, name in enumerate(names)}
    fold = np.array([places[group] for group in groups])
    found = []
    for held in np.unique(fold):
        others = _spectrum(views[fold != held].mean(axis=0))
        found += [_displacement(others, view) for view in views[fold == held]]
    shifts, matches = zip(*found, strict=True)
    pixels = base64.b64encode(_packed(views.mean(axis=0)).tobytes())
    return View(pixels=pixels, shift=_spread(shifts), match=_spread(matches))


def _displacement(spectrum: FloatMap, view: FloatMap) -> tuple[float, float]:
    """Return how far a picture lies from the one of that spectrum, in sides, and how well it fits.

    Phase correlation with half its whitening (the cross spectrum over the square root of its size):
    whole, it hears noise as loud as things; without, a lamp's gradient outweighs them.
    """
    cross = cv2.mulSpectrums(_spectrum(view), spectrum, 0, conjB=True)
    size = cv2.magnitude(cross[..., 0], cross[..., 1])
    half_white = np.asarray(cross / np.sqrt(size + 1e-9)[..., np.newaxis], np.float32)
    surface = cv2.idft(half_white, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    _, match, _, peak = cv2.minMaxLoc(surface)
    across, down = (min(d, VIEW_PX - d) / VIEW_PX for d in peak)
    return math.hypot(down, across), match


def _spectrum(view: FloatMap) -> FloatMap:
    """Return the Fourier transform [H, W, 2], real and imaginary, of a picture [H, W]."""
    return np.asarray(cv2.dft(view * _WINDOW, flags=cv2.DFT_COMPLEX_OUTPUT), np.float32)


def _packed(view: FloatMap) -> NDArray[np.uint8]:
    return np.clip(np.rint(128 + 32 * view), 0, 255).astype(np.uint8)


def _unpacked(pixels: NDArray[np.uint8]) -> FloatMap:
    return np.asarray((pixels.astype(np.float32) - 128) / 32, np.float32)


_LEVELS = np.arange(256, dtype=np.float64)
_EDGE = np.hanning(VIEW_PX + 2)[1:-1].astype(np.float32)
_WINDOW = np.outer(_EDGE, _EDGE)
"""Fades the borders out, which the Fourier transform would take for edges."""
