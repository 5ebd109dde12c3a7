"""One camera as inference sees it: its files, what judges it, what its pictures must keep to."""

import time
from dataclasses import dataclass, field

from ssn_agent.capture.settings import Region, gives_stored_pictures
from ssn_agent.errors import ImageError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured
from ssn_agent.frames.notes import ModelNote
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.crop import cropped, judged_region
from ssn_agent.inference.fitness import Fitness
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
        unfit = self._fitness[model.digest].unfit(image, region.height, region.width)
        return unfit or Waiting(self, entry.sequence, deadline_ns, region, model)

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
