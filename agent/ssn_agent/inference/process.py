"""The inference process: `python -m ssn_agent.inference.process SETTINGS PARENT`.

Takes frames from all cameras in turn, scores them, writes the result into the journal, then wakes
the ledger process. It owns nothing that outlives it: after its death the next one finds in the
journals which frames have no result yet.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ssn_agent.errors import AgentError, EngineError, ImageError
from ssn_agent.frames.heartbeat import DISK_S, Heartbeat
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Captured, Defect, ModelNote, Outcome, Result
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.inference.heatmaps import heatmap_path
from ssn_agent.inference.model import Model
from ssn_agent.inference.regions import encode_heatmap, find_defects
from ssn_agent.inference.scorer import Scored, Scorer
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent, reload_asked_by
from ssn_agent.settings import CameraSettings, Region, Settings, read_resolved
from ssn_contract.messages import InvalidReason

POLL_S = 0.1
"""A lost ring costs at most this."""
REOPEN_BUNDLE_S = 5.0


@dataclass
class _Lane:
    """One camera: its files, what judges it, and the next record to look at."""

    name: str
    settings: CameraSettings
    journal: Journal
    slots: PixelSlots
    cursor: int
    model: Model | None = None
    retry_at: float = 0.0


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
        self._models: dict[Path, Model] = {}
        self._lanes = []
        for name, camera in settings.cameras.items():
            journal = Journal(files.journal(name))
            slots = PixelSlots(files.pixels(name))
            self._lanes.append(_Lane(name, camera, journal, slots, journal.oldest()))

    def take_over(self, settings: Settings) -> None:
        """Judge by these settings from the next frame on; see `supervisor.reload`."""
        self._settings = settings
        self._digest = settings.digest
        for lane in self._lanes:
            lane.settings = settings.cameras[lane.name]

    def load(self) -> None:
        """Open the bundles that are missing, check them on this engine, and note what judges."""
        for lane in self._lanes:
            if lane.model is None and time.monotonic() >= lane.retry_at:
                lane.model = self._model(lane)
                lane.retry_at = time.monotonic() + REOPEN_BUNDLE_S

    def search(self) -> None:
        """Take the next step towards the fastest engines, and note where one took over."""
        for model in self._models.values():
            model.search()
            if model.is_changed:
                model.is_changed = False
                for lane in self._lanes:
                    if lane.model is model:
                        lane.journal.note_model(_model_note(model))
                self._ledger.ring()

    @property
    def is_loading(self) -> bool:
        """Say whether an engine that is known to be better is on its way."""
        return any(model.is_loading for model in self._models.values())

    def close(self) -> None:
        """End in order."""
        for model in self._models.values():
            model.close()

    def turn(self) -> bool:
        """Give every camera one frame's time; say whether there was anything to do."""
        worked = []
        for lane in self._lanes:
            self._heart.beat()
            worked.append(self._step(lane))
        return any(worked)

    def _model(self, lane: _Lane) -> Model | None:
        path = lane.settings.bundle
        message = "no bundle is set for this camera (cameras.NAME.bundle)"
        model = None if path is None else self._models.get(path)
        if path is not None and model is None:
            try:
                model = self._models[path] = Model(path, self._settings, self._files, self._heart)
                name = model.scorer.engine.name
                logger().info("bundle in force", bundle=str(path), engine=name)
            except AgentError as error:
                message = str(error)
        if model is None:
            logger().error("no model", camera=lane.name, problem=message)
        lane.journal.note_model(_model_note(model, message))
        self._ledger.ring()
        return model

    def _step(self, lane: _Lane) -> bool:
        """Finish at most one frame of a camera."""
        lane.journal.refresh()
        while lane.cursor <= lane.journal.head:
            entry = lane.journal.read(lane.cursor)
            if entry is None:  # the ring has moved on: the ledger closed it long ago
                lane.cursor = max(lane.cursor + 1, lane.journal.oldest())
                continue
            if entry.captured is None:
                return False
            lane.cursor += 1
            if entry.captured.reason is None and entry.result is None:
                lane.journal.finish(entry.sequence, self._judge(lane, entry, entry.captured))
                self._ledger.ring()
                return True
        return False

    def _judge(self, lane: _Lane, entry: Entry, captured: Captured) -> Result:
        if time.monotonic_ns() > entry.accepted.deadline_monotonic_ns:
            return _invalid(InvalidReason.LATE)  # scoring it would only make the next one late too
        if lane.model is None:
            return _invalid(InvalidReason.NO_MODEL)
        size = captured.height, captured.width
        frame = lane.slots.view(captured.slot, *size, captured.channels)
        try:
            region = judged_region(lane.settings.roi, *size)
            scored = lane.model.score(_crop(frame, region))
        except ImageError as error:
            logger().warning("frame not judged", camera=lane.name, problem=str(error))
            return _invalid(InvalidReason.UNREADABLE)
        except EngineError as error:
            logger().error("engine fault", camera=lane.name, problem=str(error))
            return _invalid(InvalidReason.NO_MODEL)
        return self._result(lane, lane.model.scorer, entry.sequence, scored, region)

    def _result(
        self, lane: _Lane, scorer: Scorer, sequence: int, scored: Scored, region: Region
    ) -> Result:
        outcome = Outcome.FAIL if scored.score >= lane.settings.threshold else Outcome.PASS
        defects: tuple[Defect, ...] = ()
        count = 0
        if outcome is Outcome.FAIL:
            defects, count = find_defects(
                scored.map, scorer.precision.map, region, lane.settings.min_defect_area_px
            )
        wanted = {"fail": outcome is Outcome.FAIL, "all": True, "none": False}
        heatmap = wanted[lane.settings.heatmap] and self._write_heatmap(
            lane, sequence, encode_heatmap(scored.map, scorer.precision.map)
        )
        return Result(
            outcome=outcome,
            reason=None,
            finished_monotonic_ns=time.monotonic_ns(),
            score=scored.score,
            threshold=lane.settings.threshold,
            settings_digest=self._digest,
            bundle_digest=scorer.bundle.digest,
            bundle_name=scorer.bundle.manifest.name,
            bundle_version=scorer.bundle.manifest.version,
            engine=scorer.engine.name,
            heatmap=heatmap,
            defects=defects,
            defect_count=count,
        )

    def _write_heatmap(self, lane: _Lane, sequence: int, data: bytes) -> bool:
        """Write the file before the result names it; a full disk costs the picture alone."""
        self._heart.beat(DISK_S)
        path = heatmap_path(
            self._settings.heatmap_dir, lane.name, lane.journal.header.epoch, sequence
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            logger().error("heatmap not written", file=str(path), problem=error.strerror)
            return False
        return True


def judged_region(roi: Region | None, height: int, width: int) -> Region:
    """Return the part of the image that is judged. Raises ImageError where it does not fit."""
    if roi is None:
        return Region(x=0, y=0, width=width, height=height)
    if roi.x + roi.width > width or roi.y + roi.height > height:
        msg = (
            f"the region of interest {roi.width} x {roi.height} at ({roi.x}, {roi.y}) does not fit "
            f"into a frame of {width} x {height}; change cameras.NAME.roi"
        )
        raise ImageError(msg)
    return roi


def _crop(frame: Pixels, region: Region) -> Pixels:
    return frame[region.y : region.y + region.height, region.x : region.x + region.width]


def _invalid(reason: InvalidReason) -> Result:
    return Result(Outcome.INVALID, reason, time.monotonic_ns())


def _model_note(model: Model | None, message: str = "") -> ModelNote:
    now = time.time_ns()
    if model is None:
        return ModelNote(now, "", "", "", "", message)
    scorer = model.scorer
    manifest = scorer.bundle.manifest
    return ModelNote(
        now,
        scorer.bundle.digest,
        manifest.name,
        manifest.version,
        scorer.engine.name,
        model.problem,
    )


def main(settings_path: str, parent: str) -> None:
    """Run until asked to stop."""
    end_with_parent(int(parent))
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
        if not inference.turn():
            bell.wait(POLL_S)
    inference.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
