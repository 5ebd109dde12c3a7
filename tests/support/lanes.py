"""Inference of one camera in the test's own process: frames in, results out."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Accepted, Captured, Result
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.image_files import image_path
from ssn_agent.inference.process import Inference
from ssn_agent.settings import Settings
from support.ledgers import settings_in
from support.records import EPOCH, new_journal


class Lane:
    """One camera's files, and inference on them."""

    def __init__(
        self,
        folder: Path,
        runtime: Path,
        inference: dict[str, Any] | None = None,
        **camera: Any,
    ) -> None:
        camera = {"source": {"kind": "folder", "path": str(folder)}, **camera}
        self.settings: Settings = settings_in(
            folder,
            (),
            runtime_dir=runtime,
            inference=inference or {},
            cameras={"left": camera},
        )
        runtime.mkdir(exist_ok=True)
        files = RuntimeFiles(self.settings.runtime_dir)
        PixelSlots.create(files.pixels("left"))
        self.journal: Journal = new_journal(files.journal("left"), capacity=32)
        self._slots = PixelSlots(files.pixels("left"))
        self.inference = Inference(self.settings, files)
        self.inference.load()

    def frame(
        self,
        pixels: NDArray[np.uint8],
        deadline_s: float = 60.0,
        pixel_format: PixelFormat | None = None,
        part_id: str | None = None,
    ) -> int:
        """Put a frame in front of inference, and return its number."""
        now = time.monotonic_ns()
        deadline = now + int(deadline_s * 1e9)
        sequence = self.journal.accept(Accepted(now, time.time_ns(), deadline, part_id, None))
        slot = sequence % 6
        size = self._slots.write(slot, pixels, pixel_format)
        self.journal.capture(sequence, Captured(None, slot, *size))
        return sequence

    def entry(self, sequence: int) -> Entry:
        found = self.journal.read(sequence)
        assert found is not None
        return found

    def result(self, sequence: int) -> Result:
        while self.inference.turn():
            pass
        found = self.entry(sequence).result
        assert found is not None
        return found

    def heatmap(self, sequence: int) -> Path:
        return image_path(self.settings.heatmap_dir, "left", EPOCH, sequence)

    def picture(self, sequence: int) -> Path:
        return image_path(self.settings.image_dir, "left", EPOCH, sequence)
