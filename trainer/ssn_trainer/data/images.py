"""Samples to arrays, through the very code that prepares images in the agent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import Pixels, read_image, to_network_input
from ssn_trainer.data.reading import marked_pixels
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import DataError


def load_input(sample: Sample, height: int, width: int) -> NDArray[np.uint8]:
    """Return the network's input, uint8 RGB [height, width, 3]. Raises DataError."""
    try:
        return to_network_input(read_image(sample.path), height, width)
    except ImageError as error:
        raise DataError(str(error)) from error


def load_mask(sample: Sample, height: int, width: int) -> NDArray[np.bool_]:
    """Return where the defects are, bool [height, width], by nearest neighbour.

    A good image has none: all False. Raises DataError where a bad image has no mask, where the
    mask cannot be read or marks nothing, or where its size is not the image's.
    """
    if sample.label == "good":
        return np.zeros((height, width), bool)
    if sample.mask is None:
        msg = f"{sample.path}: has no mask; add one, or leave the image out of pixel measures"
        raise DataError(msg)
    try:
        mask: Pixels = read_image(sample.mask)
        size = read_image(sample.path).shape[:2]
    except ImageError as error:
        raise DataError(str(error)) from error
    if mask.shape[:2] != size:
        msg = (
            f"{sample.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image has "
            f"{size[1]} x {size[0]}; make the mask anew in the image's size"
        )
        raise DataError(msg)
    marked = marked_pixels(mask) > 0
    if not marked.any():
        msg = f"{sample.mask}: marks no pixel of a bad image; complete or remove it"
        raise DataError(msg)
    rows = _nearest(size[0], height)
    columns = _nearest(size[1], width)
    return np.asarray(marked[rows[:, None], columns[None, :]])


def check_masks(samples: Sequence[Sample]) -> None:
    """Raise DataError where a mask does not fit its image: before hours of work, not after."""
    for sample in samples:
        if sample.mask is not None:
            load_mask(sample, 1, 1)


def _nearest(source: int, target: int) -> NDArray[np.intp]:
    """For each target pixel the source pixel under its centre."""
    centres = (np.arange(target) + 0.5) * (source / target)
    return centres.astype(np.intp).clip(0, source - 1)
