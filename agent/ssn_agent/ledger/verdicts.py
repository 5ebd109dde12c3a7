"""A decided journal record to the broker's message and the ledger's rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ssn_agent.frames.journal import Entry
from ssn_agent.frames.layout import Captured, Decision, Defect, Header, Outcome, Result
from ssn_agent.inference.image_files import image_path
from ssn_agent.publish.historical import HISTORICAL_AFTER_S
from ssn_agent.settings import Settings
from ssn_contract.messages import (
    BundleRef,
    DefectRegion,
    FrameRef,
    Goodness,
    HeatmapRef,
    ImageRef,
    InvalidReason,
    Verdict,
    VerdictKind,
)
from ssn_contract.topics import Topics

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Decided:
    """A trigger with its verdict, ready to be committed."""

    header: Header
    entry: Entry
    message: Verdict


def utc(nanoseconds: int) -> datetime:
    """Return an aware UTC time, to the microsecond; exact, unlike a float of seconds."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


class VerdictWriter:
    """Makes messages and rows under the settings in force."""

    def __init__(self, settings: Settings) -> None:
        self._topics = Topics(settings.station)
        self.take_over(settings)

    def take_over(self, settings: Settings) -> None:
        """Go by these settings from now on; what has been judged names those it was judged by."""
        self._settings = settings
        self._digest = settings.digest

    def decided(self, header: Header, entry: Entry, decision: Decision, now_ns: int) -> Decided:
        """Return a verdict ready to be committed and sent; its message says whether it waited."""
        historical = (now_ns - decision.decided_monotonic_ns) / 1e9 > HISTORICAL_AFTER_S
        message = self.message(header, entry, decision, historical=historical)
        return Decided(header, entry, message)

    def message(
        self, header: Header, entry: Entry, decision: Decision, *, historical: bool = False
    ) -> Verdict:
        """Return the verdict as the broker gets it, unless it waits there, too."""
        judged = entry.result if decision.outcome is not Outcome.INVALID else None
        accepted = entry.accepted
        return Verdict(
            station=str(self._settings.station),
            camera=header.camera,
            epoch=header.epoch,
            sequence=entry.sequence,
            part_id=accepted.part_id,
            product=accepted.product,
            verdict=VerdictKind(decision.outcome.name),
            reason=decision.reason,
            score=judged.score if judged else None,
            threshold=judged.threshold if judged else None,
            defects=[_region(d) for d in judged.defects] if judged else [],
            heatmap=self._heatmap(header, entry, judged),
            frame=_frame(entry.captured),
            image=self._image(header, entry),
            challenge=self._challenge(header.camera, accepted.part_id),
            triggered_at=utc(accepted.triggered_utc_ns),
            decided_at=utc(decision.decided_utc_ns),
            latency_ms=_ms(accepted.triggered_monotonic_ns, decision.decided_monotonic_ns),
            deadline_ms=_ms(accepted.triggered_monotonic_ns, accepted.deadline_monotonic_ns),
            bundle=_bundle(judged) if judged else None,
            engine=judged.engine if judged else None,
            settings_digest=judged.settings_digest if judged else self._digest,
            durable=True,
            historical=historical,
        )

    def _challenge(self, camera: str, part_id: str | None) -> Goodness | None:
        settings = self._settings.cameras.get(camera)  # it may be set no longer
        if settings is None or settings.challenge is None:
            return None
        known = settings.challenge.expected_of(part_id)
        return None if known is None else known[0]

    def _heatmap(self, header: Header, entry: Entry, judged: Result | None) -> HeatmapRef | None:
        if judged is None or not judged.heatmap:
            return None
        x, y, width, height = judged.region
        file = image_path(self._settings.heatmap_dir, header.camera, header.epoch, entry.sequence)
        return HeatmapRef(
            topic=self._topics.heatmap(header.camera, entry.sequence),
            file=str(file),
            x=x,
            y=y,
            width=width,
            height=height,
        )

    def _image(self, header: Header, entry: Entry) -> ImageRef | None:
        """Return where its picture is: kept, whatever became of the part, also where it is late."""
        if entry.result is None or not entry.result.image:
            return None
        x, y, width, height = entry.result.region
        file = image_path(self._settings.image_dir, header.camera, header.epoch, entry.sequence)
        return ImageRef(file=str(file), x=x, y=y, width=width, height=height)

    def outbox(self, verdict: Verdict) -> list[dict[str, Any]]:
        """Return the messages of a verdict, in the order in which they are sent."""
        text = verdict.model_dump_json()
        rows: list[dict[str, Any]] = [
            {"topic": self._topics.verdict(verdict.camera), "payload": text, "file": None}
        ]
        if verdict.heatmap is not None:
            rows.append(
                {"topic": verdict.heatmap.topic, "payload": None, "file": verdict.heatmap.file}
            )
        return rows


def trigger_row(decided: Decided) -> dict[str, Any]:
    """Return the columns of `triggers`, but for its stream."""
    captured = decided.entry.captured
    frame = decided.message.frame
    return {
        "sequence": decided.entry.sequence,
        "triggered_at": decided.message.triggered_at,
        "part_id": decided.message.part_id,
        "product": decided.message.product,
        "frame_id": frame.frame_id if frame else None,
        "captured_at": frame.captured_at if frame else None,
        "device_timestamp_ns": frame.device_timestamp_ns if frame else None,
        "width": captured.width if captured and frame else None,
        "height": captured.height if captured and frame else None,
    }


def verdict_row(message: Verdict) -> dict[str, Any]:
    """Return the columns of `verdicts`, but for its trigger."""
    bundle = message.bundle
    return {
        "verdict": message.verdict.value,
        "reason": message.reason.value if message.reason else None,
        "score": message.score,
        "threshold": message.threshold,
        "bundle_name": bundle.name if bundle else None,
        "bundle_version": bundle.version if bundle else None,
        "bundle_digest": bundle.digest if bundle else None,
        "engine": message.engine,
        "settings_digest": message.settings_digest,
        "decided_at": message.decided_at,
        "latency_ms": message.latency_ms,
        "deadline_ms": message.deadline_ms,
        "heatmap_file": message.heatmap.file if message.heatmap else None,
        "image_file": message.image.file if message.image else None,
        "challenge": message.challenge,
    }


def late_columns(entry: Entry, result: Result) -> dict[str, Any]:
    """Return the columns that keep a result which came after the deadline."""
    return {
        "late_verdict": result.outcome.name,
        "late_score": result.score,
        "late_ms": _ms(entry.accepted.triggered_monotonic_ns, result.finished_monotonic_ns),
    }


def _frame(captured: Captured | None) -> FrameRef | None:
    if captured is None or captured.reason is not None:
        return None
    return FrameRef(
        frame_id=captured.frame_id,
        captured_at=utc(captured.frame_utc_ns),
        device_timestamp_ns=captured.device_timestamp_ns,
    )


def _region(defect: Defect) -> DefectRegion:
    boxed = defect.area_px > 0
    return DefectRegion(
        x=defect.x if boxed else None,
        y=defect.y if boxed else None,
        width=defect.width if boxed else None,
        height=defect.height if boxed else None,
        area_px=defect.area_px if boxed else None,
        peak_x=defect.peak_x,
        peak_y=defect.peak_y,
        peak=defect.peak,
    )


def _bundle(result: Result) -> BundleRef:
    return BundleRef(
        name=result.bundle_name, version=result.bundle_version, digest=result.bundle_digest
    )


def _ms(start_ns: int, end_ns: int) -> float:
    return round((end_ns - start_ns) / 1e6, 3)


def invalid_counts(rows: dict[str, int]) -> dict[InvalidReason, int]:
    """Return counts by reason, from the database's texts."""
    return {InvalidReason(reason): count for reason, count in sorted(rows.items())}
