"""What the model made of a frame, as the journal takes it: a verdict's facts, regions included."""

import time

from ssn_agent.capture.settings import Region
from ssn_agent.frames.layout import Defect, Outcome, Result
from ssn_agent.inference.regions import find_defects
from ssn_agent.inference.scorer import Scored, Scorer
from ssn_agent.settings import CameraSettings
from ssn_contract.messages import InvalidReason


def outcome_of(scored: Scored, camera: CameraSettings) -> Outcome:
    """Return PASS or FAIL, by the camera's own threshold."""
    return Outcome.FAIL if scored.score >= camera.threshold else Outcome.PASS


def judged(
    scored: Scored,
    scorer: Scorer,
    camera: CameraSettings,
    region: Region,
    *,
    heatmap: bool,
    image: bool,
    settings_digest: str,
) -> Result:
    """Return the result of a frame whose `region` was scored, and promise its images' files."""
    outcome = outcome_of(scored, camera)
    defects: tuple[Defect, ...] = ()
    count = 0
    if outcome is Outcome.FAIL:
        defects, count = find_defects(
            scored.map, scorer.precision.map, region, camera.min_defect_area_px
        )
    return Result(
        outcome=outcome,
        reason=None,
        finished_monotonic_ns=time.monotonic_ns(),
        score=scored.score,
        threshold=camera.threshold,
        settings_digest=settings_digest,
        bundle_digest=scorer.bundle.digest,
        bundle_name=scorer.bundle.manifest.name,
        bundle_version=scorer.bundle.manifest.version,
        engine=scorer.engine.name,
        heatmap=heatmap,
        image=image,
        region=(region.x, region.y, region.width, region.height),
        defects=defects,
        defect_count=count,
    )


def invalid(reason: InvalidReason) -> Result:
    """Return the result of a frame that cannot be judged."""
    return Result(Outcome.INVALID, reason, time.monotonic_ns())


def collected(region: Region, *, image: bool) -> Result:
    """Return the result of a part that nothing judges; `image` promises its picture."""
    return Result(
        Outcome.INVALID,
        InvalidReason.NO_MODEL,
        time.monotonic_ns(),
        image=image,
        region=(region.x, region.y, region.width, region.height),
    )
