"""Reading the ledger while the agent runs, or after: counts and the table of verdicts."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Engine, Row, Select, func, select

from ssn_agent.atomic import atomic_text
from ssn_agent.errors import LedgerError, UsageError
from ssn_agent.ledger.database import open_database, translated
from ssn_agent.ledger.tables import DefectRow, OutboxRow, Stream, TriggerRow, VerdictRow
from ssn_agent.ledger.writer import Counts

EXPORT_COLUMNS = (
    "station",
    "camera",
    "epoch",
    "sequence",
    "triggered_at",
    "part_id",
    "product",
    "verdict",
    "reason",
    "score",
    "threshold",
    "defects",
    "heatmap_file",
    "bundle_name",
    "bundle_version",
    "bundle_digest",
    "engine",
    "settings_digest",
    "decided_at",
    "latency_ms",
    "deadline_ms",
    "published_at",
)


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


def export_csv(engine: Engine, out: TextIO) -> int:
    """Write every verdict as CSV, oldest first; return how many. Raises LedgerError."""
    table = csv.writer(out)
    table.writerow(EXPORT_COLUMNS)
    count = 0
    for row in _rows(engine):
        table.writerow([_cell(value) for value in row])
        count += 1
    return count


def export(engine: Engine, path: Path) -> int:
    """Write every verdict into a CSV file that appears whole or not at all; return how many."""
    try:
        with atomic_text(path) as out:
            count = export_csv(engine, out)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); name another file"
        raise UsageError(msg) from error
    return count


def _rows(engine: Engine) -> Iterator[Row[Any]]:
    defects = (
        select(func.count())
        .where(DefectRow.trigger_id == TriggerRow.id)
        .correlate(TriggerRow)
        .scalar_subquery()
    )
    published = (
        select(OutboxRow.published_at)
        .where(OutboxRow.trigger_id == TriggerRow.id, OutboxRow.payload.is_not(None))
        .correlate(TriggerRow)
        .scalar_subquery()
    )
    special = {"defects": defects, "published_at": published}
    columns = []
    for name in EXPORT_COLUMNS:
        owner = next((t for t in (Stream, TriggerRow, VerdictRow) if hasattr(t, name)), None)
        columns.append(special[name] if owner is None else getattr(owner, name))
    query = (
        select(*columns)
        .select_from(TriggerRow)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == TriggerRow.id)
        .order_by(TriggerRow.id)
    )
    with translated(engine), engine.connect() as connection:
        yield from connection.execution_options(yield_per=1000).execute(query)


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


def _cell(value: object) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else value
