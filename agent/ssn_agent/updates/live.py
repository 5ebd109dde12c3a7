"""The frames that the line judges, scored a second time by a bundle in shadow."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Outcome, Result
from ssn_agent.frames.onlooker import Onlooker, Seen
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.crop import cropped, judged_region
from ssn_agent.inference.fitness import Fitness
from ssn_agent.inference.results import outcome_of
from ssn_agent.inference.scorer import Scorer
from ssn_agent.log import logger
from ssn_agent.settings import CameraSettings, Settings
from ssn_agent.updates.evidence import MIN_FRAMES, Live
from ssn_contract.messages import InvalidReason

LOOK_S = 0.005
"""A frame is there for as long as it takes to judge it, or until the next part comes."""
PAUSE = 3.0
"""A score is followed by a pause of so many times its length, as in `inference.trial`."""
RESULT_S = 120.0
"""More than the longest deadline: what has no result by then gets none."""


@dataclass
class _Camera:
    """A camera where the name is followed."""

    name: str
    settings: CameraSettings
    journal: Journal
    onlooker: Onlooker
    fitness: Fitness
    after: int


@dataclass(frozen=True)
class _Scored:
    """A frame whose other result is still to come."""

    camera: _Camera
    sequence: int
    outcome: Outcome
    """INVALID: unlike the bundle's good images."""
    score: float
    took_ms: float
    at: float


@dataclass
class _Compared:
    """Frames that both have judged."""

    failed: int = 0
    pass_to_fail: int = 0
    fail_to_pass: int = 0
    unfit: int = 0
    differences: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    frames: int = 0
    by_no_other: int = 0
    """Frames that nothing judges, or the bundle itself goes on judging: what should, does not
    open."""

    @property
    def is_alone(self) -> bool:
        """Say whether there is nothing to compare with, and will be nothing."""
        return not self.frames and self.by_no_other >= MIN_FRAMES

    def add(self, one: _Scored, result: Result) -> None:
        self.frames += 1
        if one.outcome is Outcome.INVALID:
            self.unfit += 1
            return
        self.differences.append(abs(one.score - result.score))
        self.times_ms.append(one.took_ms)
        self.failed += one.outcome is Outcome.FAIL
        self.pass_to_fail += (result.outcome, one.outcome) == (Outcome.PASS, Outcome.FAIL)
        self.fail_to_pass += (result.outcome, one.outcome) == (Outcome.FAIL, Outcome.PASS)

    def summed(self) -> Live:
        return Live(
            frames=self.frames,
            failed=self.failed,
            pass_to_fail=self.pass_to_fail,
            fail_to_pass=self.fail_to_pass,
            unfit=self.unfit,
            mean_difference=round(statistics.fmean(self.differences or [0.0]), 4),
            largest_difference=round(max(self.differences, default=0.0), 4),
            median_ms=round(statistics.median(self.times_ms or [0.0]), 3),
        )


def look_at_frames(
    scorer: Scorer,
    settings: Settings,
    files: RuntimeFiles,
    follows: str,
    alive: Callable[[], None],
) -> Live:
    """Score frames until there are enough of them; `alive` is called often.

    Where no other bundle judges the line, it ends without any: waiting would keep the line so.

    Raises EngineError where the bundle's engine fails on one, JournalError.
    """
    bounds = settings.updates
    cameras = list(_cameras(scorer, settings, files, follows))
    compared = _Compared()
    waiting: list[_Scored] = []
    ends_at = time.monotonic() + 60 * bounds.shadow_minutes
    while compared.frames < bounds.shadow_frames and not compared.is_alone:
        if time.monotonic() >= ends_at and compared.frames >= MIN_FRAMES:
            break
        alive()
        for camera in cameras:
            seen = camera.onlooker.newest(camera.after)
            if seen is None:
                continue
            camera.after = seen.sequence
            judge = camera.settings.judge_of(seen.entry.accepted.product)
            if judge is not None and judge.follow == follows:
                one = _score(scorer, camera, seen)
                waiting += [] if one is None else [one]
        waiting = [one for one in waiting if not _settle(one, scorer.bundle.digest, compared)]
        time.sleep(LOOK_S)
    return compared.summed()


def _cameras(
    scorer: Scorer, settings: Settings, files: RuntimeFiles, follows: str
) -> "list[_Camera]":
    found = []
    for name, camera in settings.cameras.items():
        if any(judge.follow == follows for judge in camera.judges):
            journal = Journal(files.journal(name))
            onlooker = Onlooker(Journal(files.journal(name)), PixelSlots(files.pixels(name)))
            fitness = Fitness(scorer.bundle.reference, camera.fitness.checks)
            found.append(_Camera(name, camera, journal, onlooker, fitness, journal.head))
    return found


def _score(scorer: Scorer, camera: _Camera, seen: Seen) -> _Scored | None:
    """Score a frame, and rest; None where it cannot be judged, by whatever bundle."""
    captured = seen.entry.captured
    if captured is None:
        return None
    try:
        region = judged_region(camera.settings.roi, captured.height, captured.width)
        row = _prepared(scorer, cropped(seen.pixels, captured.pixel_format, region))
    except ImageError as error:
        logger().warning("frame not scored", camera=camera.name, problem=str(error))
        return None
    return _judged(scorer, camera, seen.sequence, row, region)


def _judged(scorer: Scorer, camera: _Camera, sequence: int, row: Pixels, region: Region) -> _Scored:
    now = time.monotonic()
    if camera.fitness.unfit(row, region.height, region.width) is not None:
        return _Scored(camera, sequence, Outcome.INVALID, 0.0, 0.0, now)
    start = time.perf_counter()
    # row [H, W, 3] -> a batch of one [1, H, W, 3]
    (scored,) = scorer.score_batch(row[np.newaxis])
    took_s = time.perf_counter() - start
    time.sleep(PAUSE * took_s)
    outcome = outcome_of(scored, camera.settings)
    return _Scored(camera, sequence, outcome, scored.score, 1000 * took_s, now)


def _prepared(scorer: Scorer, image: Pixels) -> Pixels:
    return to_network_input(image, scorer.input.height, scorer.input.width)


def _settle(one: _Scored, own_digest: str, compared: _Compared) -> bool:
    """Compare a frame where the other result is there; say whether it need not be waited for."""
    entry = one.camera.journal.read(one.sequence)
    if entry is None:
        return True
    result = entry.result
    if result is None:
        return time.monotonic() > one.at + RESULT_S
    is_own = result.bundle_digest == own_digest
    compared.by_no_other += is_own or result.reason is InvalidReason.NO_MODEL
    if result.outcome is not Outcome.INVALID and not is_own:
        compared.add(one, result)
    return True
