"""What a frame costs on its way to the network's size, beside OpenCV's averages over areas.

    python benchmarks/resize.py

CPU time of one thread in milliseconds, medians of rounds in turn, and the root mean square by which
pixels differ from `INTER_AREA`'s, on noise with a standard deviation of 50 levels as coarse as one
pixel of the network's.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from ssn_agent.frames.pixels import Pixels, to_network_input

FRAMES = [(480, 640), (480, 640, 3), (1080, 1920), (1080, 1920, 3), (2048, 2448), (2048, 2448, 3)]
SIZES = [(256, 256), (512, 512)]
ROUNDS = 40


def frame(shape: tuple[int, ...], height: int) -> Pixels:
    """Return noise of the coarseness that is left at a height of so many pixels."""
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    coarse = np.asarray(cv2.GaussianBlur(noise, (0, 0), shape[0] / height), np.float32)
    levels: Pixels = np.clip(128 + 50 * coarse / coarse.std(), 0, 255).astype(np.uint8)
    return levels


def by_area(image: Pixels, height: int, width: int, out: Pixels) -> None:
    """Do the same by OpenCV's averages over areas."""
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if small.ndim == 2:
        cv2.cvtColor(small, cv2.COLOR_GRAY2RGB, dst=out)
    else:
        out[...] = small


def timed(call: Callable[[], object]) -> float:
    """Return the CPU time of a call in milliseconds."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    table = Table("frame", "to", "ours, ms", "INTER_AREA, ms", "difference, levels")
    for shape in FRAMES:
        for height, width in SIZES:
            image = frame(shape, height)
            ours, areas = (np.empty((height, width, 3), np.uint8) for _ in range(2))
            calls: list[Callable[[], object]] = [
                partial(to_network_input, image, height, width, ours),
                partial(by_area, image, height, width, areas),
            ]
            times = [[timed(call) for call in calls] for _ in range(ROUNDS)]
            apart = float(np.sqrt(np.mean((ours.astype(float) - areas) ** 2)))
            kind = "gray" if len(shape) == 2 else "RGB"
            table.add_row(
                f"{shape[1]} x {shape[0]} {kind}",
                f"{width} x {height}",
                *(f"{median(column):.2f}" for column in zip(*times, strict=True)),
                f"{apart:.1f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
