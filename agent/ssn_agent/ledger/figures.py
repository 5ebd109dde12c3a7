"""What the ledger process says of itself to the other processes, now and then.

Beside the status, how long things took. It goes into a file of the runtime directory: who reads it
costs this process nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from ssn_agent.frames.notes import ModelNote
from ssn_agent.ledger.status import bundle_of
from ssn_agent.ledger.stream import PendingTriggers
from ssn_agent.ledger.verdicts import Decided
from ssn_agent.ledger.writer import LedgerWriter
from ssn_agent.metrics.durations import DurationCounter, RateCounter
from ssn_agent.publish.outbox import Delivery
from ssn_contract.messages import (
    CameraStatus,
    InvalidReason,
    ModelUpdate,
    StationStatus,
    Verdict,
)
from ssn_contract.metrics import BrokerCertificates, CameraMetrics, LastVerdict, StationMetrics


class CameraFigures:
    """One camera's."""

    def __init__(self) -> None:
        self._latency = DurationCounter()
        self._rate = RateCounter(time.monotonic())
        self._last: LastVerdict | None = None

    def add(self, verdict: Verdict) -> None:
        """Take a verdict that was committed."""
        self._latency.add(verdict.latency_ms / 1000)
        self._rate.add(time.monotonic())
        self._last = LastVerdict.model_construct(
            sequence=verdict.sequence,
            part_id=verdict.part_id,
            verdict=verdict.verdict,
            reason=verdict.reason,
            decided_at=verdict.decided_at,
        )

    def message(
        self, status: CameraStatus, model: ModelNote | None, update: ModelUpdate | None
    ) -> CameraMetrics:
        """Return it with what `status` says of the camera."""
        return CameraMetrics(
            **{
                **dict(status),
                "invalid": {reason: status.invalid.get(reason, 0) for reason in InvalidReason},
            },
            bundle=None if model is None else bundle_of(model),
            update=update,
            verdicts_per_s=round(self._rate.per_s(time.monotonic()), 3),
            latency=self._latency.message(),
            last=self._last,
        )


class Figures:
    """The station's, since this process started."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self._cameras = {name: CameraFigures() for name in cameras}
        self._commit = DurationCounter()
        self._delivery = DurationCounter()
        self._published: dict[int, datetime] = {}
        """Messages that were acknowledged since the last report."""
        self._published_count = 0
        self._undeliverable_count = 0

    def committed(self, took_s: float, written: Iterable[Decided], delivery: Delivery) -> None:
        """Take what a transaction has committed, and how long it took."""
        self._commit.add(took_s)
        for item in written:
            self._cameras[item.header.camera].add(item.message)
        self._published |= delivery.published
        self._published_count += len(delivery.published)
        self._undeliverable_count += len(delivery.undeliverable)

    def ask_delays(self, writer: LedgerWriter) -> None:
        """Look up when the triggers were whose verdicts have been acknowledged.

        Raises LedgerError.
        """
        published, self._published = self._published, {}
        if not published:
            return
        for message, triggered_at in writer.triggered_at(published).items():
            self._delivery.add((published[message] - triggered_at).total_seconds())

    def message(
        self,
        status: StationStatus,
        streams: Mapping[str, PendingTriggers],
        update: Callable[[str], ModelUpdate | None],
        certificates: BrokerCertificates | None,
        *,
        broker_connected: bool,
    ) -> StationMetrics:
        """Return them with the status; `update` says how far each camera's next bundle has come."""
        cameras = [
            self._cameras[camera.camera].message(
                camera, streams[camera.camera].journal.model_note(), update(camera.camera)
            )
            for camera in status.cameras
        ]
        return StationMetrics(
            **{**dict(status), "cameras": cameras},
            report_age_s=0.0,
            broker_connected=broker_connected,
            broker_certificates=certificates,
            published=self._published_count,
            undeliverable=self._undeliverable_count,
            commit=self._commit.message(),
            delivery=self._delivery.message(),
            disk_free_bytes=None,
            disk_size_bytes=None,
        )
