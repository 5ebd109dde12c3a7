"""Messages that cross the broker. JSON, UTF-8, one object a message; times are UTC (RFC 3339).

What we publish may gain fields: readers ignore what they do not know. What we take (trigger,
label, announcement) is strict: an unknown field is refused, so that a misspelt `part_id` never
passes unseen.
"""

from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ssn_contract.drift import MAX_DRIFTS, DriftStatus
from ssn_contract.manifest import Digest, Name, Time

Text = Annotated[str, Field(max_length=200)]
TopicName = Annotated[str, Field(max_length=400)]
TriggerId = Annotated[str, Field(min_length=1, max_length=120)]
PartId = Annotated[str, Field(min_length=1, max_length=120)]
Product = Annotated[str, Field(min_length=1, max_length=64)]
Sequence = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""Up to what a reader that holds numbers as doubles takes exactly."""
Count = Annotated[int, Field(ge=0)]
Goodness = Literal["good", "bad"]
ChallengeState = Literal["passed", "due", "failed"]


def _whole(number: object) -> object:
    """Take 42.0 for 42, as JSON Schema does, and writers that know no other numbers mean it."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_IS_NULL: dict[str, Any] = {"type": "null"}
_NOT_NULL: dict[str, Any] = {"not": _IS_NULL}


class _Outward(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class _Inward(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        strict=True,
        use_attribute_docstrings=True,
    )


class VerdictKind(str, Enum):
    """What was decided about a part."""

    PASS = "PASS"  # noqa: S105 -- a verdict, not a password
    FAIL = "FAIL"
    INVALID = "INVALID"


class InvalidReason(str, Enum):
    """Why a part could not be judged. A line treats every one of them as a reject."""

    LATE = "late"
    LOST = "lost"
    OVERRUN = "overrun"
    OVERLOAD = "overload"
    UNREADABLE = "unreadable"
    NO_MODEL = "no_model"
    LEDGER = "ledger"
    CHALLENGE = "challenge"
    FROZEN = "frozen"
    DARK = "dark"
    BLOWN_OUT = "blown_out"
    OUT_OF_FOCUS = "out_of_focus"
    MOVED = "moved"
    WRONG_SIZE = "wrong_size"


_BOX = ("x", "y", "width", "height", "area_px")


class DefectRegion(_Outward):
    """A region of the map above its threshold, in pixels of the source image.

    Where a FAIL has no such region, its one entry holds the peak alone (box and area null).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": dict.fromkeys(_BOX, _NOT_NULL)},
                {"properties": dict.fromkeys(_BOX, _IS_NULL)},
            ]
        }
    )
    x: Count | None
    y: Count | None
    width: Count | None
    height: Count | None
    area_px: Count | None
    peak_x: Count
    peak_y: Count
    peak: Annotated[float, Field(ge=0, le=1)]
    """Calibrated map value at the peak; 0.5 is the map threshold."""

    @model_validator(mode="after")
    def _box_is_whole_or_absent(self) -> "DefectRegion":
        if len({getattr(self, name) is None for name in _BOX}) > 1:
            msg = "a region has its whole box and area, a peak alone has none of them"
            raise ValueError(msg)
        return self


class BundleRef(_Outward):
    """The bundle that judged: its name, version and the SHA-256 of its file."""

    name: Name
    version: Text
    digest: Digest


class HeatmapRef(_Outward):
    """Where the heatmap of a verdict is: on the broker, and as a file on the station.

    An 8-bit gray PNG of the region of interest, at the network's input size; 128 is the map
    threshold.
    """

    topic: TopicName
    file: Annotated[str, Field(max_length=4096)]
    x: Count
    y: Count
    width: Count
    height: Count


class ImageRef(_Outward):
    """Where the picture that was judged is kept, as the model saw it before it was resized.

    A lossless PNG on the station, of this part of the source image.
    """

    file: Annotated[str, Field(max_length=4096)]
    x: Count
    y: Count
    width: Count
    height: Count


class FrameRef(_Outward):
    """The frame that was judged, as its camera counted and timed it."""

    frame_id: Annotated[int, Field(ge=0, le=2**63 - 1)] | None
    """The camera's own count; null: it has none."""
    captured_at: Time
    """When it was taken, as well as the station can tell."""
    device_timestamp_ns: Annotated[int, Field(ge=0, le=2**63 - 1)] | None
    """By the camera's own clock, whose zero is its own; null: it has none."""


_JUDGED: dict[str, Any] = {
    "reason": _IS_NULL,
    **dict.fromkeys(("score", "threshold", "bundle", "engine"), _NOT_NULL),
}
_COMBINATIONS: dict[str, Any] = {
    "PASS": {**_JUDGED, "defects": {"maxItems": 0}},
    "FAIL": {**_JUDGED, "defects": {"minItems": 1}},
    "INVALID": {"reason": _NOT_NULL, "defects": {"maxItems": 0}},
}
"""`Verdict._holds_together`, in the words of JSON Schema."""


class Verdict(_Outward):
    """One part, judged. Unique by (station, camera, epoch, sequence); may be delivered again."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": {"verdict": {"const": verdict}, **properties}}
                for verdict, properties in _COMBINATIONS.items()
            ]
        }
    )
    schema_version: Literal[1] = 1
    station: Text
    """`site/line/station`."""
    camera: Name
    epoch: UUID
    sequence: Sequence
    part_id: PartId | None
    product: Product | None
    verdict: VerdictKind
    reason: InvalidReason | None
    score: Annotated[float, Field(ge=0, le=1)] | None
    threshold: Annotated[float, Field(ge=0, le=1)] | None
    defects: list[DefectRegion]
    heatmap: HeatmapRef | None
    frame: FrameRef | None = None
    """null: the part has no frame that could be judged."""
    image: ImageRef | None = None
    """null: no picture is kept of it."""
    challenge: Goodness | None = None
    """What a challenge part is known to be: it is test data. null: a part like any other."""
    triggered_at: Time
    decided_at: Time
    latency_ms: Annotated[float, Field(ge=0)]
    """From trigger to decision, by the monotonic clock."""
    deadline_ms: Annotated[float, Field(gt=0)]
    bundle: BundleRef | None
    engine: Text | None
    settings_digest: Digest
    durable: bool
    """False: not yet in the ledger, which cannot be written at present; sent again when it is."""
    historical: bool = False
    """True: it waited for the broker, or for the ledger; for the record, not to be acted on."""

    @model_validator(mode="after")
    def _holds_together(self) -> "Verdict":
        invalid = self.verdict is VerdictKind.INVALID
        if invalid != (self.reason is not None):
            msg = "INVALID has a reason, PASS and FAIL have none"
            raise ValueError(msg)
        if not invalid and None in (self.score, self.threshold, self.bundle, self.engine):
            msg = "PASS and FAIL name score, threshold, bundle and engine"
            raise ValueError(msg)
        if (self.verdict is VerdictKind.FAIL) != bool(self.defects):
            msg = "a FAIL has at least one defect, the others have none"
            raise ValueError(msg)
        return self


MAX_TRIGGER_BYTES = 4096


class Trigger(_Inward):
    """A part is in front of the camera: take a frame and judge it."""

    id: TriggerId
    """The sender's own id; a repeated id is the same trigger."""
    part_id: PartId | None = None
    product: Product | None = None


MAX_LABEL_BYTES = 16_384
Labeller = Annotated[str, Field(min_length=1, max_length=120)]
LabelReason = Annotated[str, Field(max_length=1000)]
_Line = Field(pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")
"""No control characters: a terminal would act on them, and databases take no NUL."""


class Label(_Inward):
    """An operator's word on a verdict, by its key."""

    id: Annotated[TriggerId, _Line] | None = None
    """The sender's own id; a labeller's repeated id is the same label.

    null: what says the same as the labeller's last one on this verdict is the same label.
    """
    camera: Name
    epoch: UUID
    sequence: Annotated[Sequence, BeforeValidator(_whole)]
    label: Goodness
    defect_type: Annotated[Text, _Line] | None = None
    labeller: Annotated[Labeller, _Line]
    reason: Annotated[LabelReason, _Line] | None = None


ModelStep = Literal["pulled", "tried", "shadow", "refused", "swapped", "kept", "rolled_back"]


class ModelUpdate(_Outward):
    """How far another bundle has come on its way into force, or out of it."""

    step: ModelStep
    """pulled: verified, and in the store; tried: it opens and reproduces its vectors on this box;
    shadow: it scores what the one in force judges; swapped: it judges, on probation; kept: for
    good. refused, rolled_back: `detail` says why."""
    bundle: BundleRef
    """That was pulled, tried and so on; of `rolled_back`, the one that no longer judges."""
    at: Time
    detail: Text | None


class ModelInForce(_Outward):
    """Retained on `{camera}/model`: which bundle judges, on which engine."""

    schema_version: Literal[1] = 1
    station: Text
    """`site/line/station`."""
    camera: Name
    bundle: BundleRef | None
    engine: Text | None
    since: Time
    checks: list[InvalidReason] = []
    """What pictures are checked for, here and by this bundle, before they are judged."""
    update: ModelUpdate | None = None
    """The newest step of the bundle that this camera follows; null: there was none yet."""


class CameraStatus(_Outward):
    """Counts since the epoch began: triggers = passed + failed + invalid + pending, always."""

    camera: Name
    state: Literal["starting", "running", "ended", "faulty"]
    engine: Text | None = None
    """`engine/precision` that judges at present; null where nothing does."""
    epoch: UUID
    triggers: Count
    passed: Count
    failed: Count
    invalid: dict[InvalidReason, Count]
    pending: Count
    discarded_frames: Count = 0
    """Frames whose trigger no longer waited for them, since the machine started."""
    malformed_messages: Count = 0
    """Messages to the camera's input that were not understood, likewise."""
    received_frames: Count = 0
    """Frames that came, whole or not, likewise."""
    incomplete_frames: Count = 0
    """Of those: what came damaged or failed in the camera, and is INVALID(unreadable)."""
    missed_frames: Count = 0
    """Frames that the camera counted and that never came: each is INVALID(lost), likewise."""
    reconnects: Count = 0
    """How often the camera was opened again after a fault, likewise."""
    drift: Annotated[list[DriftStatus], Field(max_length=MAX_DRIFTS)] | None = None
    """What is watched for drift; null where nothing is, or nothing was judged yet."""
    challenge: ChallengeState | None = None
    """null: its verdicts are not challenged, or not yet."""

    @model_validator(mode="after")
    def _adds_up(self) -> "CameraStatus":
        closed = self.passed + self.failed + sum(self.invalid.values())
        if self.triggers != closed + self.pending:
            msg = f"triggers {self.triggers} != closed {closed} + pending {self.pending}"
            raise ValueError(msg)
        return self


class ProcessStatus(_Outward):
    """A process of the agent's, and how often it was replaced since the agent started."""

    name: Text
    """`ledger`, `inference`, `capture:CAMERA` or `http`."""
    state: Literal["waiting", "starting", "running", "killed", "ended"]
    """waiting: to be started, perhaps after a pause; killed: by the agent, and not gone yet."""
    died: Count
    """Replaced because it ended by itself, or was killed by another."""
    hung: Count
    """Replaced because it made no progress."""
    over_memory: Count
    """Replaced because it took more memory than it may."""


class SettingsStatus(_Outward):
    """The settings in force, and what has become of changes to them."""

    digest: Digest
    """As verdicts name it."""
    wants_restart: list[Text]
    """Keys that were changed in the file and are not in force: they want a restart."""
    problem: Text | None
    """Why the file was not taken over when it was read last."""


class LabelCounts(_Outward):
    """Verdicts in the ledger that people have labelled: what the newest label of each says."""

    good: Count
    bad: Count
    disagreements: Count
    """Of those: where people contradict each other, or the newest label the verdict."""


class StationStatus(_Outward):
    """Retained on `status`. The broker publishes `state: offline` as the agent's last will."""

    schema_version: Literal[1] = 1
    station: Text
    state: Literal["online", "offline"]
    at: Time
    """When this was written; the broker's `offline` was written when the agent started."""
    agent: Text
    ledger: Literal["ok", "faulty"] | None
    undelivered: Count | None
    """Messages committed and not yet acknowledged by the broker."""
    refused_triggers: Count | None = None
    """Triggers by MQTT that were not understood, since the ledger process started."""
    labels: LabelCounts | None = None
    """null where the ledger cannot be read."""
    refused_labels: Count | None = None
    """Labels by MQTT that were not taken, likewise: not understood, or of no verdict here."""
    alarms: list[Text]
    cameras: list[CameraStatus]
    processes: list[ProcessStatus] = []
    settings: SettingsStatus | None = None
    """null where the station is offline."""
