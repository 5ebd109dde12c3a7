"""What the station's HTTP API answers: docs/labels.md has its routes, `openapi.json` all of it."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from ssn_contract.manifest import Name, Time
from ssn_contract.messages import (
    Count,
    DefectRegion,
    Goodness,
    InvalidReason,
    Labeller,
    LabelReason,
    PartId,
    Sequence,
    Text,
    VerdictKind,
    _Outward,
)

LabelSource = Literal["cli", "mqtt", "http"]
Cursor = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""Names a row of the ledger; means nothing but where the next page begins."""
Disagreeing = Literal["people", "verdict"]


class Problem(_Outward):
    """Why a request was not answered."""

    problem: str


class Health(_Outward):
    """That the API is there, and whether it can read the ledger."""

    ledger: Literal["ok", "faulty"]


class LabelAnswer(_Outward):
    """What has become of a label."""

    status: Literal["kept", "repeated", "unknown", "conflict", "unavailable", "malformed"]
    """kept, repeated: it is in the ledger, and on the disk. All others: it is not."""
    id: Count | None = None
    """Its row in the ledger."""
    labelled_at: Time | None = None
    problem: str | None = None
    """Why it is not in the ledger."""


class LabelEntry(_Outward):
    """A label in the ledger, with what the agent had said of the part."""

    id: Count
    station: Text
    camera: Name
    epoch: UUID
    sequence: Sequence
    part_id: PartId | None
    verdict: VerdictKind
    score: float | None
    label: Goodness
    defect_type: Text | None
    labeller: Labeller
    reason: LabelReason | None
    labelled_at: Time
    source: LabelSource


class LedgerEntry(_Outward):
    """A part in the ledger: its verdict, and the newest label on it."""

    station: Text
    camera: Name
    epoch: UUID
    sequence: Sequence
    triggered_at: Time
    part_id: PartId | None
    product: str | None
    frame_id: int | None
    captured_at: Time | None
    device_timestamp_ns: int | None
    verdict: VerdictKind
    reason: InvalidReason | None
    score: float | None
    threshold: float | None
    defects: Count
    """How many regions are listed."""
    heatmap_file: str | None
    image_file: str | None
    """The picture as the model saw it; null: none was kept."""
    challenge: Goodness | None
    """What a challenge part is known to be; null: a part like any other."""
    bundle_name: str | None
    bundle_version: str | None
    bundle_digest: str | None
    engine: str | None
    settings_digest: str
    decided_at: Time
    latency_ms: float
    deadline_ms: float
    published_at: Time | None
    label: Goodness | None
    """What the newest label says; null: nobody has labelled it."""


class LedgerEntryInFull(LedgerEntry):
    """The same with its regions and all its labels."""

    regions: list[DefectRegion]
    labels: list[LabelEntry]
    """The newest first."""


class Disagreement(_Outward):
    """A part of which people do not say the same, or not what the agent said."""

    between: list[Disagreeing]
    """people: the last words of two people; verdict: the newest label and the verdict."""
    labels: list[LabelEntry]
    """The last one of each person, the newest first."""


class LedgerPage(_Outward):
    """Parts, the newest first."""

    entries: list[LedgerEntry]
    next: Cursor | None
    """Ask with `before` for what follows; null: nothing does."""


class LabelPage(_Outward):
    """Labels, the newest first."""

    entries: list[LabelEntry]
    next: Cursor | None


class DisagreementPage(_Outward):
    """Disagreements, those with the newest label first."""

    entries: list[Disagreement]
    next: Cursor | None
