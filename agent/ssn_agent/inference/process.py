"""The inference process: `python -m ssn_agent.inference.process SETTINGS PARENT`.

Takes frames from all cameras in turn, scores those that are fit to judge by what judges their
product (`judges`), writes the result into the journal, wakes the ledger process, and then has
heatmap and picture written. It owns nothing that outlives it: after its death the next one finds in
the journals which frames have no result yet. A heatmap that was not written by then is lost, and
the ledger's outbox says so; who reads pictures knows that one may be missing.
"""

import os
import sys
import time
from collections import deque
from pathlib import Path

from ssn_agent.errors import AgentError, EngineError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured, Result
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.inference.challenger import Challenger
from ssn_agent.inference.choice import tidy
from ssn_agent.inference.drift_watch import DriftWatch
from ssn_agent.inference.images import Images
from ssn_agent.inference.judges import Judges
from ssn_agent.inference.lane import Lane, Waiting
from ssn_agent.inference.model import Model
from ssn_agent.inference.results import collected, invalid, judged, outcome_of
from ssn_agent.inference.scorer import Scored, Scorer
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent, reload_asked_by, share_arenas
from ssn_agent.settings import Settings, read_resolved
from ssn_contract.messages import InvalidReason

POLL_S = 0.1
"""A lost ring costs at most this."""
ARENAS = 2
"""Each bundle is loaded by a new thread. With arenas of their own, 60 loads of the demo's bundle
took 80 MiB more; with two for all of them, none."""


class Inference:
    """All cameras' frames to results."""

    def __init__(self, settings: Settings, files: RuntimeFiles) -> None:
        """Map the files. Bundles are opened by `load`."""
        self._settings = settings
        self._digest = settings.digest
        self._files = files
        self._heart = Heartbeat(files.heartbeat("inference"))
        self._heart.beat()
        self._ledger = Ringer(files.ledger_bell)
        self._images = Images(settings)
        self._judges = Judges(settings, files, self._heart)
        self._lanes: deque[Lane] = deque()
        for name, camera in settings.cameras.items():
            journal = Journal(files.journal(name))
            slots = PixelSlots(files.pixels(name))
            drift = DriftWatch(name, files.drift(name))
            lane = Lane(name, camera, journal, slots, journal.next_held(0), self._judges, drift)
            if camera.challenge is not None:
                lane.challenge = Challenger(name, camera.challenge, settings, journal)
            self._lanes.append(lane)

    def take_over(self, settings: Settings) -> None:
        """Judge by these settings from the next frame on; see `supervisor.reload`."""
        self._settings = settings
        self._digest = settings.digest
        for lane in self._lanes:
            before = lane.settings
            lane.settings = settings.cameras[lane.name]
            if lane.settings.fitness != before.fitness:
                lane.choose_checks()
                lane.note_model()
                self._ledger.ring()

    def load(self) -> None:
        """Load the bundles that are missing or wanted, and note what judges; see `judges`."""
        changed = self._judges.load()
        for lane in self._lanes:
            if changed.isdisjoint(lane.seats):
                continue
            lane.choose_checks()
            lane.note_model()
            if lane.problem:
                logger().error("not all judges", camera=lane.name, problem=lane.problem)
        if changed:
            self._ledger.ring()

    def search(self) -> None:
        """Take the next step towards the fastest engines, and note where one took over."""
        changed = self._judges.search()
        for lane in self._lanes:
            if not changed.isdisjoint(lane.seats):
                lane.note_model()
        if changed:
            self._ledger.ring()

    @property
    def is_loading(self) -> bool:
        """Say whether an engine that is known to be better is on its way."""
        return self._judges.is_loading

    def tidy(self) -> None:
        """Remove what is kept for engines of bundles that are long out of use."""
        tidy(self._settings.engine_dir, self._judges.engine_dirs)

    def close(self) -> None:
        """End in order."""
        self._judges.close()
        for lane in self._lanes:
            if lane.challenge is not None:
                lane.challenge.close()
        self._images.close()

    def turn(self) -> bool:
        """Judge one batch of the frames that wait; say whether there was any.

        The camera next in turn gives the first frame. Cameras with the same bundle add theirs, one
        each in turn, as long as the batch keeps to its bounds. A frame that is not there yet is not
        waited for.
        """
        self._heart.beat()
        for lane in self._lanes:
            lane.drift.note()
        for _ in range(len(self._lanes)):
            self._lanes.rotate(-1)
            lane = self._lanes[-1]
            first = self._next(lane, row=0)
            if first is not None:
                self._score(first.model, self._fill(first))
                return True
        return False

    def challenge(self, *, idle: bool) -> bool:
        """Judge one picture that is known to be good or bad, where any is due, and say so.

        `idle`: no frame waits. Otherwise now and then: serving waits for one at most.
        """
        return any(
            lane.challenge.turn(lane, idle=idle)
            for lane in self._lanes
            if lane.challenge is not None
        )

    def _fill(self, first: Waiting) -> list[Waiting]:
        """Add to the first frame of a batch what else waits for the same bundle and fits in."""
        batch, model = [first], first.model
        lanes = deque(lane for lane in self._lanes if any(s.model is model for s in lane.seats))
        while lanes:
            nearest_ns = min(waiting.deadline_ns for waiting in batch)
            left_s = (nearest_ns - time.monotonic_ns()) / 1e9
            if not model.fits(len(batch) + 1, left_s):
                break
            waiting = self._next(lanes[0], row=len(batch), only=model)
            if waiting is None:
                lanes.popleft()
            else:
                batch.append(waiting)
                lanes.rotate(-1)
        return batch

    def _next(self, lane: Lane, row: int, only: Model | None = None) -> Waiting | None:
        """Put the next frame of a camera into this row of its model's input.

        Frames that cannot be judged get their result on the way. None: there is no more, or the
        next one is not for the `only` model that was asked for, and keeps its turn.
        """
        lane.journal.refresh()
        while lane.cursor <= lane.journal.head:
            entry = lane.journal.read(lane.cursor)
            if entry is None:  # the ring has moved on: the ledger closed it long ago
                lane.cursor = lane.journal.next_held(lane.cursor + 1)
                continue
            if entry.captured is None:
                return None
            model = lane.model_of(entry.accepted.product)
            if only is not None and model not in (None, only):
                return None
            lane.cursor += 1
            if lane.challenge is not None and entry.captured.reason is not None:
                lane.challenge.take_uncaptured(entry, entry.captured.reason)
            if entry.captured.reason is None and entry.result is None:
                if lane.settings.mode == "collect":
                    self._collect(lane, entry, entry.captured)
                    continue
                blocked = model is not None and _is_blocked(lane, entry.sequence)
                found = (
                    InvalidReason.CHALLENGE if blocked else lane.prepare(entry, entry.captured, row)
                )
                if isinstance(found, Waiting):
                    return found
                self._finish(lane, entry.sequence, invalid(found))
        return None

    def _collect(self, lane: Lane, entry: Entry, captured: Captured) -> None:
        """Keep the picture of a part that nothing judges."""
        region = lane.collect(entry, captured)
        if isinstance(region, InvalidReason):
            self._finish(lane, entry.sequence, invalid(region))
            return
        picture = self._images.take(lane, captured, region)
        self._finish(lane, entry.sequence, collected(region, image=picture is not None))
        self._images.write(lane, entry.sequence, picture)

    def _score(self, model: Model, batch: list[Waiting]) -> None:
        try:
            found = model.score_prepared(len(batch))
        except EngineError as error:
            cameras = sorted({waiting.lane.name for waiting in batch})
            logger().error("engine fault", cameras=cameras, problem=str(error))
            for waiting in batch:
                self._finish(waiting.lane, waiting.sequence, invalid(InvalidReason.NO_MODEL))
            return
        for waiting, scored in zip(batch, found, strict=True):
            self._conclude(waiting, model.scorer, scored)

    def _conclude(self, waiting: Waiting, scorer: Scorer, scored: Scored) -> None:
        """Give the result first, then the images: no verdict waits for one."""
        lane, sequence = waiting.lane, waiting.sequence
        if _is_blocked(lane, sequence):  # by a part that was in the batch before it
            self._finish(lane, sequence, invalid(InvalidReason.CHALLENGE))
            return
        outcome = outcome_of(scored, lane.settings)
        heatmap = self._images.draw(lane, outcome, scored, scorer)
        picture = None
        if self._images.keeps(waiting, outcome, scored):
            picture = self._images.take(lane, waiting.captured, waiting.region)
        result = judged(
            scored,
            scorer,
            lane.settings,
            waiting.region,
            heatmap=heatmap is not None,
            image=picture is not None,
            settings_digest=self._digest,
        )
        self._finish(lane, sequence, result)
        waiting.watch(scorer.bundle, scored.score)
        self._images.write(lane, sequence, heatmap)
        self._images.write(lane, sequence, picture)

    def _finish(self, lane: Lane, sequence: int, result: Result) -> None:
        if lane.challenge is not None:
            lane.challenge.take_result(sequence, result)
        lane.journal.finish(sequence, result)
        self._ledger.ring()


def _is_blocked(lane: Lane, sequence: int) -> bool:
    return lane.challenge is not None and lane.challenge.blocks(sequence)


def main(settings_path: str, parent: str) -> None:
    """Run until asked to stop."""
    end_with_parent(int(parent))
    share_arenas(ARENAS)  # before there are threads
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "inference")
    if settings.inference.cpus:  # before the engines make their threads, which inherit it
        os.sched_setaffinity(0, settings.inference.cpus)
    files = RuntimeFiles(settings.runtime_dir)
    bell = Doorbell(files.inference_bell)
    try:
        inference = Inference(settings, files)
    except AgentError as error:
        logger().error("the inference process cannot go on", problem=str(error))
        sys.exit(error.exit_code)
    is_ready = False
    while not stop:
        if reload_asked_by() is not None:
            settings = read_resolved(Path(settings_path))
            configure(settings.log_level, "inference")
            inference.take_over(settings)
        inference.load()
        inference.search()
        if not is_ready and not inference.is_loading:
            files.inference_ready.touch()
            is_ready = True
            inference.tidy()
        has_judged = inference.turn()
        if not inference.challenge(idle=not has_judged) and not has_judged:
            bell.wait(POLL_S)
    inference.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
