"""Identical pictures in a row: a sensor has noise, so they mean that a camera is frozen."""

import numpy as np

from ssn_agent.frames.pixels import Pixels


class Repeats:
    """A camera's last picture, kept to be compared with the next one, byte by byte."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def count(self, frame: Pixels) -> int:
        """Return which one in a row of identical frames this is, from 1 on; [H, W] or [H, W, C]."""
        if frame.shape == self._shape and self._kept == frame.data:
            self._count += 1
            return self._count
        if frame.nbytes != len(self._kept):
            self._kept = bytearray(frame.nbytes)
        self._shape, self._count = frame.shape, 1
        np.copyto(np.frombuffer(self._kept, np.uint8).reshape(frame.shape), frame)
        return 1
