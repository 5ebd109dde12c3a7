"""One camera as inference sees it: its files, what judges it, what its pictures must keep to."""

import time
from dataclasses import dataclass, field

from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.reference import Reference
from ssn_agent.capture.settings import Region, gives_stored_pictures
from ssn_agent.errors import ImageError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured
from ssn_agent.frames.notes import ModelNote
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.challenger import Challenger
from ssn_agent.inference.crop import around, cropped, judged_region
from ssn_agent.inference.drift import Figures
from ssn_agent.inference.drift_watch import DriftWatch
from ssn_agent.inference.fitness import Fitness
from ssn_agent.inference.image_writer import Picture
from ssn_agent.inference.model import Model
from ssn_agent.inference.repeats import Repeats
from ssn_agent.log import logger
from ssn_agent.settings import CameraSettings
from ssn_contract.messages import InvalidReason


@dataclass
class Lane:
    """A camera, and the next record to look at."""

    name: str
    settings: CameraSettings
    journal: Journal
    slots: PixelSlots
    cursor: int
    drift: DriftWatch
    challenge: Challenger | None = None
    model: Model | None = None
    problem: str | None = None
    """Why nothing judges, as it was said last."""
    retry_at: float = 0.0
    _fitness: Fitness = field(default_factory=lambda: Fitness(Reference(), ()))
    _repeats: Repeats = field(default_factory=Repeats)

    def choose_checks(self) -> None:
        """Take up what the settings want and the bundle's good images support, and log what it is.

        What is wanted and not supported is no fault: the picture is judged without it.
        """
        reference = Reference() if self.model is None else self.model.scorer.bundle.reference
        self._fitness = Fitness(reference, self.settings.fitness.checks)
        made = [check.value for check in self._checks]
        logger().info("pictures are checked", camera=self.name, checks=made, off=self._fitness.off)

    def note_model(self, message: str = "") -> None:
        """Note in the journal what judges; `message` says why nothing does."""
        now = time.time_ns()
        note = ModelNote(now, "", "", "", "", message)
        if self.model is not None:
            scorer = self.model.scorer
            manifest = scorer.bundle.manifest
            note = ModelNote(
                now,
                scorer.bundle.digest,
                manifest.name,
                manifest.version,
                scorer.engine.name,
                self.model.problem,
                self._checks,
            )
        self.journal.note_model(note)

    def prepare(self, entry: Entry, captured: Captured, row: int) -> "Waiting | InvalidReason":
        """Put a frame into this row of its model's input, or say why it cannot be judged."""
        deadline_ns = entry.accepted.deadline_monotonic_ns
        if time.monotonic_ns() > deadline_ns:
            return InvalidReason.LATE  # scoring it would only make the next one late too
        if self.model is None:
            return InvalidReason.NO_MODEL
        size = captured.height, captured.width
        frame = self.slots.view(captured.slot, *size, captured.pixel_format)
        after = self._frozen_after
        if after and self._repeats.count(frame) >= after:
            return InvalidReason.FROZEN
        try:
            region = judged_region(self.settings.roi, *size)
            image = self.model.prepare(cropped(frame, captured.pixel_format, region), row)
        except ImageError as error:
            logger().warning("frame not judged", camera=self.name, problem=str(error))
            return InvalidReason.UNREADABLE
        unfit = self.unfit(image, region.height, region.width)
        if unfit:
            return unfit
        size = region.height, region.width
        figures = self.drift.look(self._fitness, image, size, self.settings.drift)
        product = entry.accepted.product if self.settings.products else None
        return Waiting(self, entry.sequence, deadline_ns, region, captured, product, figures)

    def unfit(self, image: Pixels, height: int, width: int) -> InvalidReason | None:
        """Say why a picture of the network's size, resized from this one, is not judged."""
        return self._fitness.unfit(image, height, width)

    def collect(self, entry: Entry, captured: Captured) -> Region | InvalidReason:
        """Say what of a frame is kept, in a camera that judges nothing, or why nothing is."""
        if time.monotonic_ns() > entry.accepted.deadline_monotonic_ns:
            return InvalidReason.LATE
        try:
            return judged_region(self.settings.roi, captured.height, captured.width)
        except ImageError as error:
            logger().warning("frame not kept", camera=self.name, problem=str(error))
            return InvalidReason.UNREADABLE

    def picture(self, captured: Captured, region: Region) -> Picture:
        """Return what the model saw of a frame, before it was resized; it lies in the slot."""
        size = captured.height, captured.width
        frame = self.slots.view(captured.slot, *size, captured.pixel_format)
        part, within = around(frame, captured.pixel_format, region)
        return Picture(part, captured.pixel_format, within)

    @property
    def _frozen_after(self) -> int:
        stored = gives_stored_pictures(self.settings.source)
        return 0 if stored else self.settings.fitness.frozen_after

    @property
    def _checks(self) -> tuple[InvalidReason, ...]:
        frozen = (InvalidReason.FROZEN,) if self._frozen_after else ()
        return frozen + self._fitness.checks


@dataclass(frozen=True)
class Waiting:
    """A frame that lies in its row of the model's input, ready to be scored."""

    lane: Lane
    sequence: int
    deadline_ns: int
    region: Region
    captured: Captured
    product: str | None
    """By which it is judged; None: by the camera's own bundle."""
    figures: Figures
    """What its picture is like, where that is watched."""

    def watch(self, bundle: Bundle, score: float) -> None:
        """Add the part that was judged to what is watched for drift."""
        figures = {**self.figures, "score": score}
        self.lane.drift.add(self.product, bundle, figures, self.lane.settings.drift)
