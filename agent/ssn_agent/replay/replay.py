"""Scoring a recorded verdict's picture again, and saying what that proves.

Under the circumstances of the recording (engine, versions, threads, processor) the same bits must
come out. Where any differs, floating-point sums have another order: then scores agree within 1e-4.
Between precisions nothing of the kind is promised.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from ssn_agent.errors import EngineError, ReplayError
from ssn_agent.frames.layout import Defect
from ssn_agent.inference.crop import judged_region
from ssn_agent.inference.engines.available import REFERENCE, why_not
from ssn_agent.inference.regions import find_defects
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_agent.ledger.runtime_facts import runtime_facts
from ssn_agent.replay.record import Missing, Record
from ssn_agent.settings import Settings
from ssn_contract.http import LedgerEntryInFull
from ssn_contract.messages import DefectRegion, VerdictKind

TOLERANCE = 1e-4
"""Of a published score, where circumstances differ and the precision does not."""

Found = Literal["same bits", "within 1e-4", "differs"]
Expected = Literal["same bits", "within 1e-4", "no bound"]


@dataclass(frozen=True)
class Judged:
    """What a model said of the picture."""

    verdict: VerdictKind
    score: float
    defects: tuple[Defect, ...]


@dataclass(frozen=True)
class Replayed:
    """A verdict, what came out this time, and what is not as it was."""

    recorded: Judged
    now: Judged
    engine: str
    threads: int
    differences: tuple[str, ...]
    """Of the circumstances, in words; none: the same bits must come out."""
    same_precision: bool

    @property
    def score_difference(self) -> float:
        """Return by how much the score differs."""
        return abs(self.now.score - self.recorded.score)

    @property
    def found(self) -> Found:
        """Return how near it came."""
        if self.now == self.recorded:
            return "same bits"
        is_near = self.score_difference <= TOLERANCE and self.now.verdict is self.recorded.verdict
        return "within 1e-4" if is_near else "differs"

    @property
    def expected(self) -> Expected:
        """Return how near it must come."""
        if not self.same_precision:
            return "no bound"
        return "within 1e-4" if self.differences else "same bits"

    @property
    def is_reproduced(self) -> bool:
        """Say whether it came as near as it must."""
        return self.found == "same bits" or (bool(self.differences) and self.found == "within 1e-4")

    @property
    def exit_code(self) -> int:
        """Return 0 where it is reproduced, 1 where not, or that another precision cannot tell."""
        if self.is_reproduced:
            return 0
        return 1 if self.same_precision else int(Missing.ENGINE)

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "reproduced": self.is_reproduced,
            "expected": self.expected,
            "found": self.found,
            "differences": list(self.differences),
            "engine": self.engine,
            "threads": self.threads,
            "score_difference": self.score_difference,
            "recorded": _as_json(self.recorded),
            "now": _as_json(self.now),
        }


def replay(
    record: Record,
    settings: Settings,
    engine: EngineName | None = None,
    threads: int | None = None,
) -> Replayed:
    """Judge a record's picture again, by default on the recorded engine with its threads.

    Where that engine is not here, the reference judges. Raises ReplayError where the picture is not
    that of the settings' region, or no engine starts; ImageError.
    """
    entry = record.entry
    chosen, why = (engine, None) if engine is not None else _engine(record)
    height, width = record.picture.shape[:2]
    camera = record.settings.cameras[entry.camera]
    region = camera.roi or judged_region(None, height, width)
    if (region.height, region.width) != (height, width):
        msg = (
            f"{entry.camera} {entry.sequence}: its picture is {width} x {height}, but the region "
            f"that was judged has {region.width} x {region.height}; put it back from a copy"
        )
        raise ReplayError(msg, Missing.PICTURE)
    count = threads or _recorded_threads(record)
    try:
        with TemporaryDirectory() as cache:
            scorer = Scorer(record.bundle, count, engine=chosen, cache=Path(cache))
            scored = scorer.score(record.picture)
    except EngineError as error:
        raise ReplayError(str(error), Missing.ENGINE) from error
    is_fail = entry.threshold is not None and scored.score >= entry.threshold
    defects: tuple[Defect, ...] = ()
    if is_fail:
        defects, _ = find_defects(
            scored.map, scorer.precision.map, region, camera.min_defect_area_px
        )
    now = Judged(
        VerdictKind.FAIL if is_fail else VerdictKind.PASS, scored.score, tuple(map(_kept, defects))
    )
    here = {**runtime_facts(chosen, settings), "threads": count}
    differences = [why] if why else []
    differences += _differences(record.facts, here, entry)
    if (record.settings.inference.max_batch or scorer.engine.max_batch) > 1:
        differences.append("how many frames were scored at once is not recorded; now it is one")
    same_precision = chosen.partition("/")[2] == str(entry.engine).partition("/")[2]
    return Replayed(_recorded(entry), now, chosen, count, tuple(differences), same_precision)


def _engine(record: Record) -> tuple[EngineName, str | None]:
    """Return the engine to replay on, and why that is not the recorded one."""
    recorded = str(record.entry.engine)
    problem = why_not(recorded)
    if problem is None:
        return recorded, None  # type: ignore[return-value]  # why_not knows the names
    if why_not(REFERENCE) is not None:
        raise ReplayError(f"no engine: {problem}; {why_not(REFERENCE)}", Missing.ENGINE)
    return REFERENCE, f"{REFERENCE} judges in its place: {problem}"


def _recorded_threads(record: Record) -> int:
    threads = record.facts.get("threads")
    return threads if isinstance(threads, int) and threads > 0 else record.settings.threads


def _differences(
    recorded: Mapping[str, object], here: Mapping[str, object], entry: LedgerEntryInFull
) -> list[str]:
    if not recorded:
        there = [f"engine: {entry.engine} then, {here['engine']} now"]
        unknown = "the ledger does not say what its engine ran on"
        return [unknown, *(there if entry.engine != here["engine"] else [])]
    return [
        f"{name}: {recorded.get(name, 'not recorded')} then, {here.get(name, 'not known')} now"
        for name in sorted({*recorded, *here})
        if recorded.get(name) != here.get(name)
    ]


def _recorded(entry: LedgerEntryInFull) -> Judged:
    score = entry.score if entry.score is not None else float("nan")
    return Judged(entry.verdict, score, tuple(map(_defect, entry.regions)))


def _defect(region: DefectRegion) -> Defect:
    box = (region.x or 0, region.y or 0, region.width or 0, region.height or 0)
    return Defect(*box, region.area_px or 0, region.peak_x, region.peak_y, region.peak)


def _kept(defect: Defect) -> Defect:
    """Return a defect as the journal hands it to the ledger: its peak has 32 bits there."""
    return Defect(**{**asdict(defect), "peak": float(np.float32(defect.peak))})


def _as_json(judged: Judged) -> dict[str, Any]:
    return {**asdict(judged), "verdict": judged.verdict.value}
