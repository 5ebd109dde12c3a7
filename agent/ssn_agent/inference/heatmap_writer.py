"""Heatmaps to files, in a thread: no verdict waits for a picture, nor for the disk it goes to."""

import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import ImageError
from ssn_agent.inference.regions import encode_heatmap
from ssn_agent.log import logger
from ssn_contract.manifest import Calibration

MAX_WAITING = 16
"""Maps that wait for the disk; a map of 512 x 512 takes 1 MiB."""
CLOSE_S = 1.0


@dataclass(frozen=True)
class _Job:
    path: Path
    raw_map: NDArray[np.float32]
    calibration: Calibration


class HeatmapWriter:
    """Takes maps from one thread and writes them in another, in order."""

    def __init__(self) -> None:
        """Start the thread; it does not hold up the end of the process."""
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Say whether another map is taken at present. Asked by the thread that calls `write`."""
        return not self._jobs.full()

    def write(self, path: Path, raw_map: NDArray[np.float32], calibration: Calibration) -> None:
        """Have a raw map [H, W] written, whole or not at all; returns at once.

        Where that fails, the log says so. Raises `queue.Full` where there is no room.
        """
        self._jobs.put_nowait(_Job(path, raw_map, calibration))

    def close(self) -> None:
        """Write what waits, unless the disk is too slow for it."""
        try:
            self._jobs.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                data = encode_heatmap(job.raw_map, job.calibration)
                job.path.parent.mkdir(parents=True, exist_ok=True)
                # Not synced: a picture must not keep the disk from the ledger.
                write_atomically(job.path, data, synced=False)
            except ImageError as error:
                logger().error("heatmap not written", file=str(job.path), problem=str(error))
            except OSError as error:
                logger().error("heatmap not written", file=str(job.path), problem=error.strerror)
