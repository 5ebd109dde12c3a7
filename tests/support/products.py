"""Cameras whose parts are of several products, and inference on them in the test's own process."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Captured, Result
from ssn_agent.frames.notes import ModelNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.engines.available import REFERENCE
from ssn_agent.inference.process import Inference
from ssn_agent.settings import Settings
from support.followed import CHANNEL
from support.ledgers import settings_in
from support.records import new_journal


class Cameras:
    """Their files, and inference."""

    def __init__(
        self, folder: Path, runtime: Path, cameras: dict[str, dict[str, Any]], **inference: Any
    ) -> None:
        source = {"kind": "folder", "path": str(folder)}
        self.settings: Settings = settings_in(
            folder,
            (),
            runtime_dir=runtime,
            cameras={name: {"source": source, **camera} for name, camera in cameras.items()},
            inference={"engine": REFERENCE, **inference},
            channel=CHANNEL,
        )
        files = RuntimeFiles(runtime)
        self.journals: dict[str, Journal] = {}
        self._slots = {}
        for name in cameras:
            PixelSlots.create(files.pixels(name))
            self.journals[name] = new_journal(files.journal(name), camera=name, capacity=64)
            self._slots[name] = PixelSlots(files.pixels(name))
        self.inference = Inference(self.settings, files)
        self.inference.load()

    def frame(
        self,
        camera: str,
        pixels: NDArray[np.uint8],
        product: str | None = None,
        deadline_s: float = 60.0,
    ) -> tuple[str, int]:
        """Put a frame in front of inference, and return its camera and number."""
        now = time.monotonic_ns()
        journal, deadline = self.journals[camera], now + int(deadline_s * 1e9)
        sequence = journal.accept(Accepted(now, time.time_ns(), deadline, None, product))
        slot = sequence % 6
        size = self._slots[camera].write(slot, pixels)
        journal.capture(sequence, Captured(None, slot, *size))
        return camera, sequence

    def result(self, part: tuple[str, int]) -> Result:
        """Judge what waits; return the result of a part."""
        while self.inference.turn():
            pass
        found = self.peek(part)
        assert found is not None
        return found

    def peek(self, part: tuple[str, int]) -> Result | None:
        """Return the result of a part, where it has one."""
        camera, sequence = part
        entry = self.journals[camera].read(sequence)
        assert entry is not None
        self.journals[camera].commit(sequence)
        return entry.result

    def note(self, camera: str) -> ModelNote:
        """Return what the journal says judges."""
        note = self.journals[camera].model_note()
        assert note is not None
        return note
