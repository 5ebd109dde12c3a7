"""Samples to arrays, through the very code that prepares images in the agent."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import Pixels, read_image, to_network_input
from ssn_trainer.data.reading import read_mask
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import BlankMaskError, DataError


def load_image(sample: Sample) -> Pixels:
    """Return the image as its file has it. Raises DataError."""
    try:
        return read_image(sample.path)
    except ImageError as error:
        raise DataError(str(error)) from error


def load_input(sample: Sample, height: int, width: int) -> NDArray[np.uint8]:
    """Return the network's input, uint8 RGB [height, width, 3]. Raises DataError."""
    return to_network_input(load_image(sample), height, width)


def load_mask(sample: Sample, height: int, width: int) -> NDArray[np.bool_]:
    """Return where the defects are, bool [height, width], by nearest neighbour.

    A region that falls between the pixels keeps one, so that the finest defects still count. A good
    image has none: all False. Raises DataError where a bad image has no mask, where the mask cannot
    be read or marks nothing, or where its size is not the image's.
    """
    if sample.label == "good":
        return np.zeros((height, width), bool)
    marked = _read_mask(sample)
    rows = _nearest(marked.shape[0], height)
    columns = _nearest(marked.shape[1], width)
    shrunk = np.array(marked[rows[:, None], columns[None, :]])
    regions, count = ndimage.label(marked, structure=np.ones((3, 3), int))
    kept = np.unique(regions[rows[:, None], columns[None, :]])
    for lost in np.setdiff1d(np.arange(1, count + 1), kept):
        inside = np.argwhere(regions == lost)
        y, x = inside[len(inside) // 2]
        shrunk[y * height // marked.shape[0], x * width // marked.shape[1]] = True
    return shrunk


def load_coverage(sample: Sample, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the share of each cell of a grid that is defect, float32 [rows, columns] in [0, 1].

    By area, so that no thin defect falls between the cells. Raises DataError as `load_mask` does.
    """
    if sample.label == "good":
        return np.zeros((rows, columns), np.float32)
    marked = _read_mask(sample).astype(np.float32)
    down, across = _shares(marked.shape[0], rows), _shares(marked.shape[1], columns)
    # [rows, H] [H, W] [W, columns] -> [rows, columns]
    return np.asarray(down @ marked @ across.T, np.float32)


def drop_blank_masks(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Open every mask; return the samples, and the names of those whose masks mark nothing.

    These come back without a mask: nobody has drawn where the defect is. Raises DataError where a
    mask does not fit its image: before hours of work, not after.
    """
    kept, blank = [], []
    for sample in samples:
        drawn = sample
        if sample.mask is not None:
            try:
                load_mask(sample, 1, 1)
            except BlankMaskError:
                blank.append(sample.name)
                drawn = replace(sample, mask=None)
        kept.append(drawn)
    return tuple(kept), tuple(blank)


def _read_mask(sample: Sample) -> NDArray[np.bool_]:
    """Return where a bad image is defect, bool [H, W] in the image's own size."""
    if sample.mask is None:
        msg = f"{sample.path}: has no mask; add one, or leave the image out of pixel measures"
        raise DataError(msg)
    try:
        marked = read_mask(sample.mask)
        size = read_image(sample.path).shape[:2]
    except ImageError as error:
        raise DataError(str(error)) from error
    if marked.shape != size:
        msg = (
            f"{sample.mask}: {marked.shape[1]} x {marked.shape[0]} pixels, but its image has "
            f"{size[1]} x {size[0]}; make the mask anew in the image's size"
        )
        raise DataError(msg)
    if not marked.any():
        msg = f"{sample.mask}: marks no pixel of a bad image; complete or remove it"
        raise BlankMaskError(msg)
    return marked


def _nearest(source: int, target: int) -> NDArray[np.intp]:
    """For each target pixel the source pixel under its centre."""
    centres = (np.arange(target) + 0.5) * (source / target)
    return centres.astype(np.intp).clip(0, source - 1)


def _shares(source: int, target: int) -> NDArray[np.float32]:
    """For each of `target` cells which share of it each source pixel fills, [target, source]."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    ends = np.minimum(edges[1:, None], pixels + 1)
    starts = np.maximum(edges[:-1, None], pixels)
    return np.asarray((ends - starts).clip(min=0) * (target / source), np.float32)
