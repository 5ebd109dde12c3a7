"""Pictures of a report: what the model saw and where it looked, errors first."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import read_image, to_network_input
from ssn_agent.inference.calibration import PUBLISHED_THRESHOLD
from ssn_agent.inference.regions import heatmap, overlay
from ssn_contract.manifest import Calibration
from ssn_trainer.data.images import load_mask
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import DataError
from ssn_trainer.pack.judge import Judged, Run

_MOST_ERRORS = 8
"""Of each kind, misses and false alarms."""
_HITS = 4
_OUTLINE = (255, 0, 255)
"""Magenta, BGR: neither the colours of a heatmap nor those of most parts."""
_QUALITIES = (85, 70, 50, 30, 10)


@dataclass(frozen=True)
class Room:
    """How large a picture may be: pixels on its longer side, and bytes as JPEG."""

    side: int
    picture_bytes: int


FULL = Room(256, 24 * 1024)
SMALL = Room(160, 6 * 1024)


@dataclass(frozen=True)
class Tile:
    """An image beside its heatmap."""

    name: str
    kind: str | None
    """The defect type; None for good images."""
    score: float
    """Published."""
    image: str
    """JPEG in a data URI, as the next one."""
    heatmap: str
    """The image under its heatmap, the mask outlined."""
    outlined: bool
    width: int
    height: int


@dataclass(frozen=True)
class Galleries:
    """Images of each kind, and how many there are in all."""

    misses: tuple[Tile, ...]
    """Bad images that pass, the lowest score first."""
    all_misses: int
    alarms: tuple[Tile, ...]
    """Good images that fail, the highest score first."""
    all_alarms: int
    hits: tuple[Tile, ...]
    """Some of the bad images that fail, of all types and scores in turn."""
    all_hits: int


@dataclass(frozen=True)
class Painter:
    """Images to tiles: scores them again, for maps are not kept."""

    run: Run
    height: int
    width: int
    """Of the network's input."""
    calibration: Calibration
    """Of the map."""
    room: Room
    masks: bool
    """Outline the defect where a bad image has a mask; without it no mask is opened."""

    def tile(self, sample: Sample, score: float) -> Tile:
        """Return an image and its published score as a tile. Raises DataError, EngineError."""
        try:
            pixels = read_image(sample.path)
        except ImageError as error:
            raise DataError(str(error)) from error
        _, maps = self.run(to_network_input(pixels, self.height, self.width)[np.newaxis])
        height, width = _fit(pixels.shape[0], pixels.shape[1], self.room.side)
        picture = cv2.cvtColor(to_network_input(pixels, height, width), cv2.COLOR_RGB2BGR)
        looked = overlay(picture, heatmap(maps[0], self.calibration))
        outlined = self.masks and sample.mask is not None
        if outlined:
            mask = load_mask(sample, height, width).astype(np.uint8)
            edges, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(looked, edges, -1, _OUTLINE, 1)
        image, laid = (_jpeg(p, self.room.picture_bytes) for p in (picture, looked))
        return Tile(sample.name, sample.kind, score, image, laid, outlined, width, height)


def make_galleries(painter: Painter, judged: Judged, published: NDArray[Any]) -> Galleries:
    """Choose among judged images by their published scores [N].

    Same images and scores, same galleries. Raises DataError, EngineError.
    """
    # The samples are ordered by name, and so are those of equal score.
    bad, fails = judged.of("bad"), published >= PUBLISHED_THRESHOLD
    order = np.argsort(published, kind="stable")
    misses = order[(bad & ~fails)[order]]
    falling = np.argsort(-published, kind="stable")
    alarms = falling[(~bad & fails)[falling]]
    found = order[(bad & fails)[order]]
    hits = sorted(found, key=lambda i: judged.samples[i].kind or "")
    shown = min(_HITS, len(hits))
    typical = [hits[(2 * k + 1) * len(hits) // (2 * shown)] for k in range(shown)]

    def tiles(indices: Sequence[int] | NDArray[np.intp]) -> tuple[Tile, ...]:
        return tuple(painter.tile(judged.samples[i], float(published[i])) for i in indices)

    return Galleries(
        misses=tiles(misses[:_MOST_ERRORS]),
        all_misses=misses.size,
        alarms=tiles(alarms[:_MOST_ERRORS]),
        all_alarms=alarms.size,
        hits=tiles(typical),
        all_hits=len(hits),
    )


def _fit(height: int, width: int, side: int) -> tuple[int, int]:
    """Scale a size down, so that its longer side is at most `side`."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _jpeg(picture: NDArray[Any], most_bytes: int) -> str:
    """BGR [H, W, 3] as JPEG in a data URI, of the best quality that has room."""
    data = b""
    for quality in _QUALITIES:
        # Colours at full resolution: outlines are one pixel wide.
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        data = cv2.imencode(".jpg", picture, options)[1].tobytes()
        if len(data) <= most_bytes:
            break
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
