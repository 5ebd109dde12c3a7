"""Verdicts of the ledger by time, camera, verdict, model and part: as rows, JSON lines or CSV."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, Row, func, or_, select

from ssn_agent.atomic import atomic_text
from ssn_agent.errors import UsageError
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.label_query import labels_of
from ssn_agent.ledger.tables import (
    DefectRow,
    LabelRow,
    OutboxRow,
    Stream,
    TriggerRow,
    VerdictRow,
)
from ssn_contract.http import LedgerEntry, LedgerEntryInFull, LedgerPage
from ssn_contract.messages import DefectRegion, InvalidReason, VerdictKind

COLUMNS = (
    "station",
    "camera",
    "epoch",
    "sequence",
    "triggered_at",
    "part_id",
    "product",
    "frame_id",
    "captured_at",
    "device_timestamp_ns",
    "verdict",
    "reason",
    "score",
    "threshold",
    "defects",
    "heatmap_file",
    "image_file",
    "challenge",
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
_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Filter:
    """Which verdicts are wanted; what is None does not count."""

    since: datetime | None = None
    """Triggered at this time or later."""
    until: datetime | None = None
    """Triggered before this time."""
    camera: str | None = None
    verdict: VerdictKind | None = None
    reason: InvalidReason | None = None
    model: str | None = None
    """A bundle's name, NAME-VERSION, or how its digest begins."""
    part: str | None = None
    station: str | None = None
    labelled: bool | None = None
    """Whether anybody has labelled it."""

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what a row must meet."""
        if self.since is not None:
            yield TriggerRow.triggered_at >= self.since
        if self.until is not None:
            yield TriggerRow.triggered_at < self.until
        if self.camera is not None:
            yield Stream.camera == self.camera
        if self.verdict is not None:
            yield VerdictRow.verdict == self.verdict.value
        if self.reason is not None:
            yield VerdictRow.reason == self.reason.value
        if self.model is not None:
            yield or_(
                VerdictRow.bundle_name == self.model,
                VerdictRow.bundle_name + "-" + VerdictRow.bundle_version == self.model,
                VerdictRow.bundle_digest.startswith(self.model, autoescape=True),
            )
        if self.part is not None:
            yield TriggerRow.part_id == self.part
        if self.station is not None:
            yield Stream.station == self.station
        if self.labelled is not None:
            labelled = TriggerRow.id.in_(select(LabelRow.trigger_id))
            yield labelled if self.labelled else ~labelled


EVERYTHING = Filter()


def point_in_time(text: str, now: datetime) -> datetime:
    """Read a time: ISO 8601 (in UTC where it names no zone), or a span back from `now`, as `90m`.

    Raises UsageError.
    """
    span = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if span is not None:
            return now - timedelta(**{_SPANS[span[2]]: int(span[1])})
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
        return zoned.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        msg = f"{text!r} is no time; give 2026-05-04T06:00, 2026-05-04T06:00+02:00, or 90m, 8h, 7d"
        raise UsageError(msg) from error


def newest(engine: Engine, wanted: Filter, limit: int) -> list[Row[Any]]:
    """Return the newest verdicts, newest first, with `COLUMNS`. Raises LedgerError."""
    query = _select(wanted).order_by(TriggerRow.id.desc()).limit(limit)
    with translated(engine), engine.connect() as connection:
        return list(connection.execute(query))


def page(engine: Engine, wanted: Filter, before: int | None, limit: int) -> LedgerPage:
    """Return the newest verdicts, those before a cursor where there is one. Raises LedgerError."""
    query = _labelled(_select(wanted)).order_by(TriggerRow.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(TriggerRow.id < before)
    with translated(engine), engine.connect() as connection:
        found = list(connection.execute(query))
    entries = [LedgerEntry.model_validate(row._asdict()) for row in found[:limit]]
    return LedgerPage(entries=entries, next=found[limit - 1].row if len(found) > limit else None)


def entry(
    engine: Engine, station: str, camera: str, epoch: UUID, sequence: int
) -> LedgerEntryInFull | None:
    """Return a verdict by its key, with all that hangs on it; None: it is not there.

    Raises LedgerError.
    """
    query = _labelled(_select(EVERYTHING)).where(
        Stream.station == station,
        Stream.camera == camera,
        Stream.epoch == epoch,
        TriggerRow.sequence == sequence,
    )
    with translated(engine), engine.connect() as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        regions = select(DefectRow.__table__).where(DefectRow.trigger_id == row.row)
        found = connection.execute(regions.order_by(DefectRow.id))
        return LedgerEntryInFull(
            **row._asdict(),
            regions=[DefectRegion.model_validate(region._asdict()) for region in found],
            labels=labels_of(connection, row.row),
        )


def newest_key(engine: Engine, wanted: Filter) -> tuple[UUID, int] | None:
    """Return epoch and number of the newest such verdict. Raises LedgerError."""
    found = newest(engine, wanted, 1)
    return (found[0].epoch, found[0].sequence) if found else None


def as_json(row: Row[Any]) -> str:
    """Return a row as one line of JSON."""
    return json.dumps({name: _cell(value) for name, value in zip(COLUMNS, row, strict=True)})


def export_csv(engine: Engine, out: TextIO, wanted: Filter = EVERYTHING) -> int:
    """Write verdicts as CSV, oldest first; return how many. Raises LedgerError."""
    table = csv.writer(out)
    table.writerow(COLUMNS)
    count = 0
    query = _select(wanted).order_by(TriggerRow.id)
    with translated(engine), engine.connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            table.writerow([_cell(value) for value in row])
            count += 1
    return count


def export(engine: Engine, path: Path, wanted: Filter = EVERYTHING) -> int:
    """Write verdicts into a CSV file that appears whole or not at all; return how many.

    Raises LedgerError, UsageError.
    """
    try:
        with atomic_text(path) as out:
            count = export_csv(engine, out, wanted)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); name another file"
        raise UsageError(msg) from error
    return count


def _select(wanted: Filter) -> Any:
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
    for name in COLUMNS:
        owner = next((t for t in (Stream, TriggerRow, VerdictRow) if hasattr(t, name)), None)
        columns.append(special[name].label(name) if owner is None else getattr(owner, name))
    return (
        select(*columns)
        .select_from(TriggerRow)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == TriggerRow.id)
        .where(*wanted.conditions())
    )


def _labelled(query: Any) -> Any:
    """Add the row's number and the newest label."""
    newest = (
        select(LabelRow.label)
        .where(LabelRow.trigger_id == TriggerRow.id)
        .order_by(LabelRow.id.desc())
        .limit(1)
        .correlate(TriggerRow)
        .scalar_subquery()
    )
    return query.add_columns(newest.label("label"), TriggerRow.id.label("row"))


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, int | float) else str(value)
