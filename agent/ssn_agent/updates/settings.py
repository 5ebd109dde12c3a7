"""The settings of bundles on their way into force."""

from typing import Annotated

from pydantic import Field

from ssn_agent.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(gt=0, le=10_080)]


class UpdateSettings(Section):
    """What a bundle is put to before it judges, and what it is gone back from for."""

    shadow_frames: Annotated[int, Field(ge=20, le=1_000_000)] = 500
    """It scores so many frames beside the one in force,"""
    shadow_minutes: Minutes = 60.0
    """or for so long, whichever is first; 20 frames at least."""
    alarm_disagreement: Share = 0.1
    """From this share of those frames on a different verdict is an alarm, and no refusal."""
    probation_parts: Annotated[int, Field(ge=20, le=1_000_000)] = 200
    """A bundle that judges is on probation for so many parts,"""
    probation_minutes: Minutes = 60.0
    """or for so long, whichever is first; 20 parts at least."""
    max_invalid_rise: Share = 0.02
    """By how much the share of INVALID may rise, where the model can be the cause."""
    max_fail_change: Share = 0.10
    """By how much the share of FAIL may rise or fall from what its shadow has seen."""
    max_latency_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """By how much the median time from trigger to result may grow."""
