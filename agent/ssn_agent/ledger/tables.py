"""The tables of the ledger. Nothing here that PostgreSQL lacks; migrations beside this file."""

from datetime import datetime, timezone
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: nobody knows what they mean."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value} has no time zone"
            raise ValueError(msg)
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give back UTC."""
        del dialect
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


class Base(DeclarativeBase):
    """All tables. Integers are wide; SQLite's are anyway, and its row ids must be INTEGER."""

    type_annotation_map: ClassVar = {int: BigInteger().with_variant(Integer, "sqlite")}


class Stream(Base):
    """A gap-free numbering of one camera's triggers: the first three parts of a verdict's key."""

    __tablename__ = "streams"
    __table_args__ = (UniqueConstraint("station", "camera", "epoch"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station: Mapped[str] = mapped_column(String(200))
    camera: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[UUID] = mapped_column(Uuid)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_sequence: Mapped[int | None]
    """The last number, where the agent ended with everything committed; null while it runs."""


class TriggerRow(Base):
    """A part that was counted."""

    __tablename__ = "triggers"
    __table_args__ = (UniqueConstraint("stream_id", "sequence"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id"))
    sequence: Mapped[int]
    triggered_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    part_id: Mapped[str | None] = mapped_column(String(120), index=True)
    product: Mapped[str | None] = mapped_column(String(200))
    frame_id: Mapped[int | None]
    captured_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its frame was taken."""
    device_timestamp_ns: Mapped[int | None]
    """The same by the camera's own clock."""
    width: Mapped[int | None]
    height: Mapped[int | None]


class VerdictRow(Base):
    """Its one verdict."""

    __tablename__ = "verdicts"

    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id"), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(String(16))
    score: Mapped[float | None] = mapped_column(Float)
    threshold: Mapped[float | None] = mapped_column(Float)
    bundle_name: Mapped[str | None] = mapped_column(String(64))
    bundle_version: Mapped[str | None] = mapped_column(String(64))
    bundle_digest: Mapped[str | None] = mapped_column(String(64))
    engine: Mapped[str | None] = mapped_column(String(48))
    settings_digest: Mapped[str] = mapped_column(String(64))
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
    latency_ms: Mapped[float] = mapped_column(Float)
    deadline_ms: Mapped[float] = mapped_column(Float)
    heatmap_file: Mapped[str | None] = mapped_column(Text)
    image_file: Mapped[str | None] = mapped_column(Text)
    """The picture as the model saw it, where it was kept; retention may have deleted it since."""
    challenge: Mapped[str | None] = mapped_column(String(4))
    """What a challenge part is known to be, good or bad; null: a part like any other."""
    late_verdict: Mapped[str | None] = mapped_column(String(8))
    """What the model said after the deadline: it does not change the verdict."""
    late_score: Mapped[float | None] = mapped_column(Float)
    late_ms: Mapped[float | None] = mapped_column(Float)


class VerdictCount(Base):
    """How many verdicts of a kind a stream has had, whether their rows are still kept or not."""

    __tablename__ = "verdict_counts"

    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id"), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(8), primary_key=True)
    reason: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Empty where there is none: a key has no nulls."""
    count: Mapped[int]


class DefectRow(Base):
    """A region of a FAIL; box and area are null where it is the peak of the map alone."""

    __tablename__ = "defects"

    id: Mapped[int] = mapped_column(primary_key=True)
    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id"), index=True)
    x: Mapped[int | None]
    y: Mapped[int | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    area_px: Mapped[int | None]
    peak_x: Mapped[int]
    peak_y: Mapped[int]
    peak: Mapped[float] = mapped_column(Float)


class OutboxRow(Base):
    """A message for the broker, in the order of its id; undelivered while both ends are null."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id"), index=True)
    topic: Mapped[str] = mapped_column(Text)
    payload: Mapped[str | None] = mapped_column(Text)
    """The message, where it is text."""
    file: Mapped[str | None] = mapped_column(Text)
    """The file to send, where it is a picture."""
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    problem: Mapped[str | None] = mapped_column(Text)
    """Why it can never be delivered."""

    __table_args__ = (
        Index(
            "ix_outbox_undelivered",
            "id",
            sqlite_where=published_at.is_(None) & problem.is_(None),
            postgresql_where=published_at.is_(None) & problem.is_(None),
        ),
    )


class LabelRow(Base):
    """What somebody said of a verdict. Never changed: the newest one (the highest id) counts."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("labeller", "message_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trigger_id: Mapped[int] = mapped_column(ForeignKey("triggers.id"), index=True)
    label: Mapped[str] = mapped_column(String(4))
    defect_type: Mapped[str | None] = mapped_column(String(200))
    labeller: Mapped[str] = mapped_column(String(120))
    reason: Mapped[str | None] = mapped_column(String(1000))
    labelled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    source: Mapped[str] = mapped_column(String(8))
    message_id: Mapped[str | None] = mapped_column(String(120))
    """The sender's own, so that a repeated message makes no second row."""


class SettingsChange(Base):
    """Settings that came into force: the newest row holds those in force."""

    __tablename__ = "settings_changes"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    who: Mapped[str] = mapped_column(String(120))
    old_digest: Mapped[str | None] = mapped_column(String(64))
    new_digest: Mapped[str] = mapped_column(String(64))
    new: Mapped[str] = mapped_column(Text)
    """All settings but secrets, as JSON."""


class ModelEvent(Base):
    """A step of a bundle into force or out of it, and what judges: never changed."""

    __tablename__ = "model_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """Given where the step was taken, so that one that is told twice makes no second row."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    step: Mapped[str] = mapped_column(String(16))
    """`ssn_contract.messages.ModelStep`; or `in_force`: an engine judges a camera from now on."""
    follows: Mapped[str | None] = mapped_column(String(64))
    """The name that is followed; null of `in_force`."""
    camera: Mapped[str | None] = mapped_column(String(64))
    """Of `in_force`; null: all cameras that follow the name."""
    bundle_name: Mapped[str | None] = mapped_column(String(64))
    bundle_version: Mapped[str | None] = mapped_column(String(64))
    bundle_digest: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str | None] = mapped_column(String(1000))
    """Why, for people."""
    figures: Mapped[str] = mapped_column(Text)
    """What was measured, or what it runs on: a JSON object."""


class ChallengeEvent(Base):
    """A picture or part known to be good or bad that was judged, and what came of it.

    Never changed; see `inference.challenge_state.Event`.
    """

    __tablename__ = "challenges"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """Given by inference, so that one that is told twice makes no second row."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    camera: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(8))
    """`judged`; or the challenge was `due`, `overdue` or `cleared`."""
    kind: Mapped[str | None] = mapped_column(String(8))
    """Of `judged`, as what follows: `image` or `part`."""
    name: Mapped[str | None] = mapped_column(String(255))
    """The picture's file, or the pattern that the part is known by."""
    expected: Mapped[str | None] = mapped_column(String(4))
    part_id: Mapped[str | None] = mapped_column(String(120))
    verdict: Mapped[str | None] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(String(16))
    score: Mapped[float | None] = mapped_column(Float)
    bundle_digest: Mapped[str | None] = mapped_column(String(64))
    is_right: Mapped[bool | None]
    who: Mapped[str | None] = mapped_column(String(120))
    why: Mapped[str | None] = mapped_column(String(1000))
