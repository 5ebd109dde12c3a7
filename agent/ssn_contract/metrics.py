"""The station's figures for dashboards, on the topic `metrics`: what `status` says, and how fast.

The Prometheus endpoint and `ssn-agent status` show the same object.
"""

from typing import Annotated

from pydantic import Field, model_validator

from ssn_contract.manifest import Time
from ssn_contract.messages import (
    BundleRef,
    CameraStatus,
    Count,
    InvalidReason,
    ModelUpdate,
    PartId,
    ProcessStatus,
    Sequence,
    StationStatus,
    VerdictKind,
    _Outward,
)

Bound = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Seconds = Annotated[float, Field(ge=0)]


class Durations(_Outward):
    """How long something took, since the ledger process started; and of late."""

    count: Count
    sum_s: Seconds
    buckets: Annotated[dict[Bound, Count], Field(json_schema_extra={"additionalProperties": False})]
    """How many took at most so many seconds; bounds and counts rise, up to `count`."""
    median_s: Seconds | None
    """Of the last 1000; null where there are none, as in `p99_s`."""
    p99_s: Seconds | None

    @model_validator(mode="after")
    def _rises(self) -> "Durations":
        counts = [*self.buckets.values(), self.count]
        bounds = [float(bound) for bound in self.buckets]
        if bounds != sorted(bounds) or counts != sorted(counts):
            msg = "buckets and their counts rise, up to `count`"
            raise ValueError(msg)
        return self


class LastVerdict(_Outward):
    """The newest verdict of a camera."""

    sequence: Sequence
    part_id: PartId | None
    verdict: VerdictKind
    reason: InvalidReason | None
    decided_at: Time


class CameraMetrics(CameraStatus):
    """What `status` says of a camera, with every INVALID reason named, and its figures."""

    bundle: BundleRef | None
    """That judges at present; null where nothing does."""
    update: ModelUpdate | None = None
    """As `model` has it."""
    verdicts_per_s: Seconds
    """Over the last 10 s."""
    latency: Durations
    """From trigger to decision, of every verdict: INVALID ones, too."""
    last: LastVerdict | None
    """Since the ledger process started."""


class ProcessMetrics(ProcessStatus):
    """What `status` says of a process (the `supervisor` is named, too), and its memory."""

    memory_bytes: Count | None
    """Resident, without the files that processes share; null where it does not run."""


class BrokerCertificates(_Outward):
    """When the certificates of the line to the broker end; null where there is none, or unknown."""

    own: Time | None
    """The station's (`broker.cert_file`)."""
    authority: Time | None
    """Whom it trusts (`broker.ca_file`); of several, the first to end."""
    broker: Time | None
    """The broker's own, as of the last connection."""


class StationMetrics(StationStatus):
    """What `status` says, and figures. Not retained: an agent that is gone has none."""

    report_age_s: Seconds | None
    """How old is what the ledger process said: everything but `processes`, `settings` and the disk.

    null: it has said nothing since the agent started.
    """
    broker_connected: bool | None
    broker_certificates: BrokerCertificates | None = None
    """null: without TLS; stations of earlier versions do not send it."""
    published: Count | None
    """Messages that the broker has acknowledged, since the ledger process started."""
    undeliverable: Count | None
    """Messages given up, likewise: a picture that does not come, what the broker cannot take."""
    commit: Durations | None
    """Transactions of the ledger."""
    delivery: Durations | None
    """From trigger to the broker's acknowledgement of the verdict, by the wall clock."""
    disk_free_bytes: Count | None
    """Where the ledger is; null where that cannot be asked."""
    disk_size_bytes: Count | None
    cameras: list[CameraMetrics]  # type: ignore[assignment]  # narrower, and read alone
    processes: list[ProcessMetrics]  # type: ignore[assignment]  # likewise
