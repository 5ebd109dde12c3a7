"""Retained on `{camera}/challenge`: is what is known to be good and bad judged so?"""

from typing import Annotated, Literal

from pydantic import Field

from ssn_contract.manifest import Name, Time
from ssn_contract.messages import (
    ChallengeState,
    Goodness,
    InvalidReason,
    Labeller,
    LabelReason,
    PartId,
    Text,
    VerdictKind,
    _Outward,
)

ChallengeKind = Literal["image", "part"]


class ChallengeItem(_Outward):
    """A picture or part that is known to be good or bad, and how it was judged last."""

    kind: ChallengeKind
    name: Annotated[str, Field(max_length=255)]
    """The picture's file; of a part, the pattern of ids that it is known by."""
    expected: Goodness
    passed: bool | None
    """Since the challenge was due last; null: it is still to come."""
    part_id: PartId | None
    """Of the part that was judged last, as the fields below; null where none was."""
    verdict: VerdictKind | None
    reason: InvalidReason | None
    score: Annotated[float, Field(ge=0, le=1)] | None
    at: Time | None


class ChallengeCleared(_Outward):
    """Somebody had a camera judge on, whatever its challenge said."""

    at: Time
    who: Labeller
    why: LabelReason


class ChallengeReport(_Outward):
    """Retained on `{camera}/challenge`: does it judge rightly what is known to be good and bad?"""

    schema_version: Literal[1] = 1
    station: Text
    """`site/line/station`."""
    camera: Name
    state: ChallengeState
    """due: something is still to come, and verdicts go on. failed: something was judged wrongly, or
    did not come in time, and every other part is INVALID(challenge)."""
    since: Time
    items: list[ChallengeItem]
    cleared: ChallengeCleared | None
    """null: not since it was due last."""
