"""Reading the ledger while the agent runs, or after: counts and latencies. Verdicts: `query`."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, Select, func, select

from ssn_agent.errors import LedgerError
from ssn_agent.ledger.database import open_database, translated
from ssn_agent.ledger.tables import OutboxRow, Stream, TriggerRow, VerdictRow
from ssn_agent.ledger.writer import Counts


@dataclass(frozen=True)
class CameraStats:
    """What the ledger holds of one camera, over all epochs."""

    camera: str
    triggers: int
    counts: Counts
    latency_median_ms: float | None
    latency_p99_ms: float | None
    undelivered: int


def open_ledger(path: Path) -> Engine:
    """Open an existing ledger for reading. Raises LedgerError."""
    if not path.is_file():
        msg = f"{path}: no ledger is there; name another with --ledger, or run the agent first"
        raise LedgerError(msg)
    return open_database(path, read_only=True)


def stats(engine: Engine) -> list[CameraStats]:
    """Return the counts of every camera. Raises LedgerError."""
    with translated(engine), engine.connect() as connection:
        cameras = connection.execute(select(Stream.camera).distinct().order_by(Stream.camera))
        names = list(cameras.scalars())
        found = []
        for name in names:
            counts = Counts()
            for verdict, reason, count in connection.execute(_by_verdict(name)):
                counts.add(verdict, reason, count)
            triggers = connection.execute(_of_camera(select(func.count()), name)).scalar_one()
            latencies = list(connection.execute(_latencies(name)).scalars())
            found.append(
                CameraStats(
                    camera=name,
                    triggers=triggers,
                    counts=counts,
                    latency_median_ms=quantile(latencies, 0.5),
                    latency_p99_ms=quantile(latencies, 0.99),
                    undelivered=connection.execute(_undelivered(name)).scalar_one(),
                )
            )
    return found


def _of_camera(query: "Select[int]", camera: str) -> "Select[int]":
    return (
        query.select_from(TriggerRow)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .where(Stream.camera == camera)
    )


def _undelivered(camera: str) -> "Select[int]":
    waiting = OutboxRow.published_at.is_(None) & OutboxRow.problem.is_(None)
    query = _of_camera(select(func.count()), camera)
    return query.join(OutboxRow, OutboxRow.trigger_id == TriggerRow.id).where(waiting)


def _by_verdict(camera: str) -> "Select[str, str | None, int]":
    return (
        select(VerdictRow.verdict, VerdictRow.reason, func.count())
        .join(TriggerRow, TriggerRow.id == VerdictRow.trigger_id)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .where(Stream.camera == camera)
        .group_by(VerdictRow.verdict, VerdictRow.reason)
    )


def _latencies(camera: str) -> "Select[float]":
    return (
        select(VerdictRow.latency_ms)
        .join(TriggerRow, TriggerRow.id == VerdictRow.trigger_id)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .where(Stream.camera == camera, VerdictRow.verdict != "INVALID")
        .order_by(VerdictRow.latency_ms)
    )


def quantile(ordered: list[float], q: float) -> float | None:
    """Return a quantile of values in rising order; None where there are none."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
