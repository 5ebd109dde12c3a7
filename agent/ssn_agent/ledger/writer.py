"""The one writer of the ledger: verdicts with their messages in one transaction, then the rest."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, Engine, Table, Update, bindparam, func, insert, select, update
from sqlalchemy.dialects import sqlite

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.tables import (
    Base,
    DefectRow,
    OutboxRow,
    SettingsChange,
    Stream,
    TriggerRow,
    VerdictCount,
    VerdictRow,
)
from ssn_agent.ledger.verdicts import Decided, VerdictWriter, trigger_row, verdict_row
from ssn_agent.publish.outbox import Delivery, Message

_UNDELIVERED = OutboxRow.published_at.is_(None) & OutboxRow.problem.is_(None)


def _table(rows: type[Base]) -> Table:
    return cast("Table", rows.__table__)  # declared as what a mapped class may be, too


# Made once: to make one takes longer than to execute it.
_TRIGGERS, _OUTBOX, _COUNTS = _table(TriggerRow), _table(OutboxRow), _table(VerdictCount)
_NEW_TRIGGERS = insert(_TRIGGERS).returning(_TRIGGERS.c.id, sort_by_parameter_order=True)
_PRESENT = select(_TRIGGERS.c.sequence).where(
    _TRIGGERS.c.stream_id == bindparam("stream"),
    _TRIGGERS.c.sequence.between(bindparam("first"), bindparam("last")),
)
_NEW_COUNTS = sqlite.insert(_COUNTS)
_COUNT = _NEW_COUNTS.on_conflict_do_update(
    index_elements=_COUNTS.primary_key,
    set_={"count": _COUNTS.c.count + _NEW_COUNTS.excluded.count},
)
_ONE_MESSAGE = update(_OUTBOX).where(_OUTBOX.c.id == bindparam("message"), _UNDELIVERED)
_PUBLISHED = _ONE_MESSAGE.values(published_at=bindparam("value"))
_UNDELIVERABLE = _ONE_MESSAGE.values(problem=bindparam("value"))
_NEWEST_MESSAGE = select(func.coalesce(func.max(_OUTBOX.c.id), 0))


@dataclass(frozen=True)
class OutboxMessage:
    """A message that the broker has not acknowledged."""

    id: int
    topic: str
    payload: str | None
    file: str | None


@dataclass
class Counts:
    """Closed triggers of a stream, by verdict."""

    passed: int = 0
    failed: int = 0
    invalid: Counter[str] = field(default_factory=Counter)

    @property
    def closed(self) -> int:
        """Return how many triggers have a committed verdict."""
        return self.passed + self.failed + self.invalid.total()

    def add(self, verdict: str, reason: str | None, count: int = 1) -> None:
        """Count verdicts of one kind."""
        if verdict == "PASS":
            self.passed += count
        elif verdict == "FAIL":
            self.failed += count
        else:
            self.invalid[str(reason)] += count


class LedgerWriter:
    """Writes. Every method is one transaction, on the disk when it returns. Raises LedgerError.

    A stream is opened (`open_stream`) before anything of it is written.
    """

    def __init__(self, engine: Engine, station: str, messages: VerdictWriter) -> None:
        self._engine = engine
        self._station = station
        self._messages = messages
        self._streams: dict[tuple[str, UUID], int] = {}
        self._undelivered: int | None = None
        """Counted once: after days without a broker that takes a tenth of a second."""

    def write(self, decided: Sequence[Decided], delivery: Delivery) -> int:
        """Commit verdicts with their defects and messages, and what became of older messages.

        Return the highest id of a message. A verdict whose trigger is there already is left as it
        is: the process died between the commit and the note of it in the journal.
        """
        with translated(self._engine), self._engine.begin() as connection:
            more = self._insert(connection, self._missing(connection, decided))
            more -= _note(connection, _PUBLISHED, delivery.published)
            more -= _note(connection, _UNDELIVERABLE, delivery.undeliverable)
            newest = int(connection.execute(_NEWEST_MESSAGE).scalar_one())
        if self._undelivered is not None:
            self._undelivered += more
        return newest

    def keep_late(self, camera: str, epoch: UUID, columns: dict[int, dict[str, Any]]) -> None:
        """Keep what the model said after the deadline, beside the verdicts, by their numbers.

        At once: after an outage there are hundreds, and a commit each would hold the verdicts up.
        """
        stream = self._stream(camera, epoch)
        with translated(self._engine), self._engine.begin() as connection:
            for sequence, values in columns.items():
                trigger = (
                    select(TriggerRow.id)
                    .where(TriggerRow.stream_id == stream, TriggerRow.sequence == sequence)
                    .scalar_subquery()
                )
                connection.execute(
                    update(VerdictRow).where(VerdictRow.trigger_id == trigger).values(values)
                )

    def open_stream(self, camera: str, epoch: UUID) -> None:
        """Note that numbers of this stream are being given out; first thing to do with a stream."""
        known = select(Stream.id).where(
            Stream.station == self._station, Stream.camera == camera, Stream.epoch == epoch
        )
        values = {
            "station": self._station,
            "camera": camera,
            "epoch": epoch,
            "opened_at": datetime.now(timezone.utc),
        }
        with translated(self._engine), self._engine.begin() as connection:
            stream = connection.execute(known).scalar()
            if stream is None:
                new = insert(Stream).values(values).returning(Stream.id)
                stream = connection.execute(new).scalar_one()
            connection.execute(
                update(Stream).where(Stream.id == stream).values(closed_sequence=None)
            )
        self._streams[camera, epoch] = stream

    def close_stream(self, camera: str, epoch: UUID, sequence: int) -> None:
        """Note that the stream ended with everything up to this number committed."""
        stream = self._stream(camera, epoch)
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(
                update(Stream).where(Stream.id == stream).values(closed_sequence=sequence)
            )

    def close(self) -> None:
        """Close the database; what uses it next opens it anew."""
        self._engine.dispose()

    def last_stream(self, camera: str) -> tuple[UUID, int | None] | None:
        """Return the newest stream of a camera and its closing number; None where there is none."""
        query = (
            select(Stream.epoch, Stream.closed_sequence)
            .where(Stream.station == self._station, Stream.camera == camera)
            .order_by(Stream.id.desc())
            .limit(1)
        )
        with translated(self._engine), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.epoch, row.closed_sequence)

    def undelivered(self, after: int, limit: int) -> list[Message]:
        """Return messages that wait, oldest first, with ids above `after`."""
        query = (
            select(OutboxRow.id, OutboxRow.topic, OutboxRow.payload, OutboxRow.file)
            .where(_UNDELIVERED, OutboxRow.id > after)
            .order_by(OutboxRow.id)
            .limit(limit)
        )
        with translated(self._engine), self._engine.connect() as connection:
            return [OutboxMessage(*row) for row in connection.execute(query)]

    def newest_message(self) -> int:
        """Return the highest id of a message; 0 where there is none."""
        with translated(self._engine), self._engine.connect() as connection:
            return int(connection.execute(_NEWEST_MESSAGE).scalar_one())

    def count_undelivered(self) -> int:
        """Return how many messages wait."""
        if self._undelivered is None:
            query = select(func.count()).select_from(OutboxRow).where(_UNDELIVERED)
            with translated(self._engine), self._engine.connect() as connection:
                self._undelivered = connection.execute(query).scalar_one()
        return self._undelivered

    def triggered_at(self, messages: Iterable[int]) -> dict[int, datetime]:
        """Return, of these messages, when the triggers were whose verdicts they are."""
        query = (
            select(OutboxRow.id, TriggerRow.triggered_at)
            .join(TriggerRow, TriggerRow.id == OutboxRow.trigger_id)
            .where(OutboxRow.id.in_(messages), OutboxRow.file.is_(None))
        )
        with translated(self._engine), self._engine.connect() as connection:
            return {row.id: row.triggered_at for row in connection.execute(query)}

    def counts(self, camera: str, epoch: UUID) -> Counts:
        """Return the closed triggers of a stream, by verdict, also those no longer kept."""
        query = (
            select(VerdictCount.verdict, VerdictCount.reason, VerdictCount.count)
            .join(Stream, Stream.id == VerdictCount.stream_id)
            .where(Stream.station == self._station, Stream.camera == camera, Stream.epoch == epoch)
        )
        counts = Counts()
        with translated(self._engine), self._engine.connect() as connection:
            for verdict, reason, count in connection.execute(query):
                counts.add(verdict, reason, count)
        return counts

    def count_unkept(self, camera: str, epoch: UUID, reason: str, count: int) -> None:
        """Count INVALID verdicts of which there are no rows."""
        row = {"stream_id": self._stream(camera, epoch), "verdict": "INVALID", "reason": reason}
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(_COUNT, {**row, "count": count})

    def committed(self, camera: str, epoch: UUID, first: int) -> set[int]:
        """Return the numbers of a stream, from `first` on, that have a verdict."""
        query = (
            select(TriggerRow.sequence)
            .join(Stream, Stream.id == TriggerRow.stream_id)
            .where(Stream.station == self._station, Stream.camera == camera, Stream.epoch == epoch)
            .where(TriggerRow.sequence >= first)
        )
        with translated(self._engine), self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def note_settings(self, digest: str, text: str, who: str) -> None:
        """Note settings that come into force, where they differ from the last ones.

        The text decides, not the digest: that leaves out what bears on no verdict.
        """
        newest = (
            select(SettingsChange.new_digest, SettingsChange.new)
            .order_by(SettingsChange.id.desc())
            .limit(1)
        )
        with translated(self._engine), self._engine.begin() as connection:
            old = connection.execute(newest).first()
            if old is not None and old.new == text:
                return
            change = {
                "at": datetime.now(timezone.utc),
                "who": who,
                "old_digest": None if old is None else old.new_digest,
                "new_digest": digest,
                "new": text,
            }
            connection.execute(insert(SettingsChange).values(change))

    def _missing(self, connection: Connection, decided: Sequence[Decided]) -> list[Decided]:
        """Return those whose triggers are not there yet."""
        wanted: dict[int, list[int]] = {}
        for item in decided:
            wanted.setdefault(self._stream_of(item), []).append(item.entry.sequence)
        present = set()
        for stream, sequences in wanted.items():
            rows = connection.execute(
                _PRESENT, {"stream": stream, "first": min(sequences), "last": max(sequences)}
            )
            present |= {(stream, sequence) for sequence in rows.scalars()}
        return [d for d in decided if (self._stream_of(d), d.entry.sequence) not in present]

    def _insert(self, connection: Connection, decided: Sequence[Decided]) -> int:
        """Insert triggers, then what hangs on them, each kind of row at once, and count them.

        Return how many messages there are to send.
        """
        if not decided:
            return 0
        triggers = [{"stream_id": self._stream_of(item), **trigger_row(item)} for item in decided]
        ids = connection.execute(_NEW_TRIGGERS, triggers).scalars().all()
        verdicts, defects, outbox = [], [], []
        kinds: Counter[tuple[int, str, str]] = Counter()
        for trigger_id, item in zip(ids, decided, strict=True):
            owner = {"trigger_id": trigger_id}
            verdict = verdict_row(item.message)
            verdicts.append({**owner, **verdict})
            kinds[self._stream_of(item), verdict["verdict"], verdict["reason"] or ""] += 1
            defects += [{**owner, **defect.model_dump()} for defect in item.message.defects]
            outbox += [{**owner, **row} for row in self._messages.outbox(item.message)]
        counts = [
            {"stream_id": stream, "verdict": verdict, "reason": reason, "count": count}
            for (stream, verdict, reason), count in kinds.items()
        ]
        connection.execute(_COUNT, counts)
        for table, rows in ((VerdictRow, verdicts), (DefectRow, defects), (OutboxRow, outbox)):
            if rows:
                connection.execute(insert(_table(table)), rows)
        return len(outbox)

    def _stream_of(self, item: Decided) -> int:
        return self._stream(item.header.camera, item.header.epoch)

    def _stream(self, camera: str, epoch: UUID) -> int:
        return self._streams[camera, epoch]


def _note(connection: Connection, update_one: Update, values: Mapping[int, Any]) -> int:
    """Note what became of messages; return of how many of them nothing was noted before."""
    if not values:
        return 0
    rows = [{"message": row_id, "value": value} for row_id, value in values.items()]
    return connection.execute(update_one, rows).rowcount
