"""Heatmaps and pictures to files, in a thread: no verdict waits for one, nor for its disk."""

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ssn_agent.atomic import write_atomically
from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels
from ssn_agent.inference.crop import cropped
from ssn_agent.inference.regions import encode_heatmap, encode_picture
from ssn_agent.log import logger
from ssn_contract.manifest import Calibration

MAX_WAITING = 16
"""Files that wait for the disk."""
MAX_BYTES = 256 * 2**20
"""What they may hold of the memory. A map of 512 x 512 takes 1 MiB, a gray frame of 20 megapixels
19, the largest that there are 64."""
CLOSE_S = 3.0
"""For what waits at an orderly end: a few large pictures. The supervisor waits for 5 s."""


class Image(Protocol):
    """What becomes a PNG."""

    @property
    def nbytes(self) -> int:
        """Say how much memory it holds."""

    def encode(self) -> bytes:
        """Return the file's content. Raises ImageError."""


@dataclass(frozen=True)
class Heatmap:
    """A raw map [H, W] and what its values mean."""

    raw_map: NDArray[np.float32]
    calibration: Calibration

    @property
    def nbytes(self) -> int:
        """Say how much memory it holds."""
        return self.raw_map.nbytes

    def encode(self) -> bytes:
        """Return it as an 8-bit gray PNG."""
        return encode_heatmap(self.raw_map, self.calibration)


@dataclass(frozen=True)
class Picture:
    """What the model saw, before it was resized: a region of a part of a frame.

    As its camera sent it: a Bayer pattern takes a third of the memory that its colours take, and
    they are made in the writer's thread.
    """

    part: Pixels
    pixel_format: PixelFormat
    region: Region
    """Within the part."""

    @property
    def nbytes(self) -> int:
        """Say how much memory it holds."""
        return self.part.nbytes

    def copied(self) -> "Picture":
        """Return the same out of its pixel slot, which is used again once there is a result."""
        return Picture(self.part.copy(), self.pixel_format, self.region)

    def encode(self) -> bytes:
        """Return it as a PNG, 8-bit gray or RGB."""
        return encode_picture(cropped(self.part, self.pixel_format, self.region))


class ImageWriter:
    """Takes images from one thread and writes them in another, in order."""

    def __init__(self) -> None:
        """Start the thread; it does not hold up the end of the process."""
        self._jobs: queue.Queue[tuple[Path, Image] | None] = queue.Queue(
            MAX_WAITING + 1  # a verdict asks twice before it writes its two
        )
        self._put_bytes = 0
        self._written_bytes = 0  # each is counted by one thread
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def has_room(self, nbytes: int) -> bool:
        """Say whether so much more is taken at present. Asked by the thread that calls `write`."""
        waiting = self._put_bytes - self._written_bytes
        return self._jobs.qsize() < MAX_WAITING and waiting + nbytes <= MAX_BYTES

    def write(self, path: Path, image: Image) -> None:
        """Have an image written, whole or not at all; returns at once.

        Where that fails, the log says so. Raises `queue.Full` where there is no room.
        """
        self._jobs.put_nowait((path, image))
        self._put_bytes += image.nbytes

    def close(self) -> None:
        """Write what waits, unless the disk is too slow for it."""
        until = time.monotonic() + CLOSE_S
        try:
            self._jobs.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            path, image = job
            try:
                data = image.encode()
                path.parent.mkdir(parents=True, exist_ok=True)
                # Not synced: a picture must not keep the disk from the ledger.
                write_atomically(path, data, synced=False)
            except ImageError as error:
                logger().error("image not written", file=str(path), problem=str(error))
            except OSError as error:
                logger().error("image not written", file=str(path), problem=error.strerror)
            self._written_bytes += image.nbytes
            del job, image  # or a large one would stay until the next comes
