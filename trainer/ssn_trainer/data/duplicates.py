"""Photographs of the same part, found by their fine structure.

Two parts of one kind look alike in their outline, their pose and their light; two photographs of
one part share what is particular to it: grain, scratches, stains. So small pictures are stripped
of what many images of the set have in common (local brightness and contrast, the mean picture, the
mean power spectrum: a whitened correlation, as in Kuglin and Hines, "The phase correlation image
alignment method", 1975), and compared over shifts of a few pixels, as crops differ.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from ssn_agent.frames.pixels import Pixels, to_network_input

THUMBNAIL_PX = 32
_SHIFT_PX = 2
_LOCAL_SIGMA_PX = 2.0
_CUTOFF = 0.25
"""Standard deviation of the low-pass, in cycles per pixel: above it grain no longer registers."""
_LOWEST, _HIGHEST, _HALF_WIDTH = 0.4, 0.95, 0.05
"""Unrelated thumbnails stay below 0.4 by chance alone; see `valley` for the other two."""

Thumbnail = NDArray[np.float32]
"""float32 [THUMBNAIL_PX, THUMBNAIL_PX], gray."""


def thumbnail(image: Pixels) -> Thumbnail:
    """Return the small gray picture of an image that is compared."""
    small = to_network_input(image, THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(small.mean(axis=2), dtype=np.float32)  # [px, px, 3] -> [px, px]


def similarities(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the similarity of each pair, [N, N] in [-1, 1], of thumbnails [N, px, px]."""
    n = len(thumbnails)
    white = _whiten(thumbnails)
    flat = white.reshape(n, -1)  # [N, px, px] -> [N, px * px]
    best = np.full((n, n), -1.0, np.float32)
    # A shift of one against another is the opposite shift of the other: half the plane suffices.
    for dy in range(_SHIFT_PX + 1):
        for dx in range(-_SHIFT_PX if dy else 0, _SHIFT_PX + 1):
            shifted = np.roll(white, (dy, dx), (1, 2)).reshape(n, -1)  # -> [N, px * px]
            np.maximum(best, flat @ shifted.T, out=best)
    np.maximum(best, best.T.copy(), out=best)
    return best


def valley(similarity: NDArray[np.float32]) -> float:
    """Return the similarity that parts pairs of one part from pairs of different parts.

    Where parts were photographed repeatedly, the pairs' similarities have two humps and few pairs
    between; where they were not, there is one hump that falls off towards 1 (similar poses, for
    instance). In both cases the right place to cut is where the fewest pairs lie near: the minimum
    of the density between 0.4 and 0.95, and of several the middle of the longest run.
    """
    pairs = np.sort(similarity[np.triu_indices(len(similarity), 1)])
    cuts = np.arange(_LOWEST, _HIGHEST + 1e-9, 0.01)
    near = np.searchsorted(pairs, cuts + _HALF_WIDTH) - np.searchsorted(pairs, cuts - _HALF_WIDTH)
    emptiest = np.flatnonzero(near == near.min())
    runs = np.split(emptiest, np.flatnonzero(np.diff(emptiest) > 1) + 1)
    return float(cuts[max(runs, key=len)].mean())


def _whiten(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Strip [N, px, px] of what the set has in common; each result has length 1 (blank ones 0)."""
    sigma = (0.0, _LOCAL_SIGMA_PX, _LOCAL_SIGMA_PX)
    detail = thumbnails - gaussian_filter(thumbnails, sigma)
    # Two gray levels: below that, contrast is the camera's noise and is not blown up.
    detail /= np.sqrt(gaussian_filter(detail**2, sigma)) + 2.0
    detail -= detail.mean(axis=0)
    window = np.sqrt(np.hanning(THUMBNAIL_PX + 2)[1:-1])
    spectrum = fft.rfft2(detail * np.outer(window, window))
    power = (np.abs(spectrum) ** 2).mean(axis=0)
    fy, fx = np.fft.fftfreq(THUMBNAIL_PX)[:, None], np.fft.rfftfreq(THUMBNAIL_PX)[None, :]
    low_pass = np.exp(-(fy**2 + fx**2) / (2 * _CUTOFF**2))
    white = fft.irfft2(spectrum * low_pass / np.sqrt(power + 1e-3 * power.mean() + 1e-12))
    length = np.linalg.norm(white, axis=(1, 2), keepdims=True)
    return np.asarray(white / (length + 1e-6), dtype=np.float32)
