"""One camera as inference sees it: its files, what judges it, what its pictures must keep to."""

import time
from dataclasses import dataclass, field

from ssn_agent.bundles.archive import Bundle
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
from ssn_agent.inference.judges import Judges, Seat
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
    judges: Judges
    drift: DriftWatch
    challenge: Challenger | None = None
    _fitness: dict[str, Fitness] = field(default_factory=dict)
    """By the digest of the bundle."""
    _repeats: Repeats = field(default_factory=Repeats)

    @property
    def seats(self) -> list[Seat]:
        """Return where this camera's parts are judged: its own, then those of the products.

        A camera that judges by product alone has none of its own.
        """
        named = [j for j in self.settings.judges if j.bundle is not None or j.follow is not None]
        return [self.judges.seat(judge) for judge in named or [self.settings]]

    @property
    def model(self) -> Model | None:
        """Return what judges where no product is named."""
        return self.model_of(None)

    def model_of(self, product: str | None) -> Model | None:
        """Return what judges a part of this product; None: nothing does."""
        judge = self.settings.judge_of(product)
        return None if judge is None else self.judges.seat(judge).model

    def choose_checks(self) -> None:
        """Take up what the settings want and the good images of each bundle support, and log it.

        What is wanted and not supported is no fault: the picture is judged without it.
        """
        models = [seat.model for seat in self.seats if seat.model is not None]
        self._fitness = {
            model.digest: Fitness(model.scorer.bundle.reference, self.settings.fitness.checks)
            for model in models
        }
        for digest, fitness in self._fitness.items():
            made = [check.value for check in self._checks(digest)]
            about = {"camera": self.name, "bundle": digest}
            logger().info("pictures are checked", **about, checks=made, off=fitness.off)

    def note_model(self) -> None:
        """Note in the journal what judges, and the problems of all that should.

        There is room for one bundle: the camera's own, or the first product's where the camera has
        none. Each verdict names the bundle that made it.
        """
        first, now = self.seats[0].model, time.time_ns()
        note = ModelNote(now, "", "", "", "", self.problem)
        if first is not None:
            scorer = first.scorer
            manifest = scorer.bundle.manifest
            note = ModelNote(
                now,
                first.digest,
                manifest.name,
                manifest.version,
                scorer.engine.name,
                self.problem,
                self._checks(first.digest),
            )
        self.journal.note_model(note)

    @property
    def problem(self) -> str:
        """Say what does not judge here and should, and why, a line each; empty where all is well.

        A bundle that is missing first: the note has little room.
        """
        if self.settings.mode == "collect":
            return 'mode = "collect": pictures are kept, and nothing is judged'
        problems = [seat.problem for seat in self.seats]
        problems += [seat.model.problem for seat in self.seats if seat.model is not None]
        return "\n".join(dict.fromkeys(problem for problem in problems if problem))

    def prepare(self, entry: Entry, captured: Captured, row: int) -> "Waiting | InvalidReason":
        """Put a frame into this row of its model's input, or say why it cannot be judged."""
        deadline_ns = entry.accepted.deadline_monotonic_ns
        if time.monotonic_ns() > deadline_ns:
            return InvalidReason.LATE  # scoring it would only make the next one late too
        model = self.model_of(entry.accepted.product)
        if model is None:
            return InvalidReason.NO_MODEL
        size = captured.height, captured.width
        frame = self.slots.view(captured.slot, *size, captured.pixel_format)
        after = self._frozen_after
        if after and self._repeats.count(frame) >= after:
            return InvalidReason.FROZEN
        try:
            region = judged_region(self.settings.roi, *size)
            image = model.prepare(cropped(frame, captured.pixel_format, region), row)
        except ImageError as error:
            logger().warning("frame not judged", camera=self.name, problem=str(error))
            return InvalidReason.UNREADABLE
        fitness = self._fitness[model.digest]
        unfit = fitness.unfit(image, region.height, region.width)
        if unfit:
            return unfit
        size = region.height, region.width
        figures = self.drift.look(fitness, image, size, self.settings.drift)
        product = entry.accepted.product if self.settings.products else None
        return Waiting(self, entry.sequence, deadline_ns, region, model, captured, product, figures)

    def unfit(self, image: Pixels, height: int, width: int) -> InvalidReason | None:
        """Say why the camera's own model does not judge a picture of its size, made from this."""
        model = self.model
        return None if model is None else self._fitness[model.digest].unfit(image, height, width)

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

    def _checks(self, digest: str) -> tuple[InvalidReason, ...]:
        frozen = (InvalidReason.FROZEN,) if self._frozen_after else ()
        return frozen + self._fitness[digest].checks


@dataclass(frozen=True)
class Waiting:
    """A frame that lies in its row of the model's input, ready to be scored."""

    lane: Lane
    sequence: int
    deadline_ns: int
    region: Region
    model: Model
    captured: Captured
    product: str | None
    """By which it is judged; None: by the camera's own bundle."""
    figures: Figures
    """What its picture is like, where that is watched."""

    def watch(self, bundle: Bundle, score: float) -> None:
        """Add the part that was judged to what is watched for drift."""
        figures = {**self.figures, "score": score}
        self.lane.drift.add(self.product, bundle, figures, self.lane.settings.drift)
