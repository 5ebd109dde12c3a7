"""Labels in the ledger: as they were given, and where people or a verdict contradict each other.

Of each person the last word on a verdict counts; of a verdict the newest label. That contradicts a
PASS where it says bad, a FAIL where it says good, and an INVALID never.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Subquery, and_, func, or_, select

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.tables import LabelRow, Stream, TriggerRow, VerdictRow
from ssn_contract.http import Disagreement, LabelEntry
from ssn_contract.messages import LabelCounts


@dataclass(frozen=True)
class LabelFilter:
    """Which labels are wanted; what is None does not count."""

    camera: str | None = None
    since: datetime | None = None
    """Given at this time or later."""
    before: int | None = None
    """With ids below this one: the page that follows."""

    def conditions(self, newest: Any) -> Iterator[ColumnElement[bool]]:
        """Yield what a row must meet whose newest label has this id and `labelled_at`."""
        if self.camera is not None:
            yield Stream.camera == self.camera
        if self.since is not None:
            yield newest.labelled_at >= self.since
        if self.before is not None:
            yield newest.id < self.before


def count_labels(connection: Connection, triggers: Sequence[int] | None = None) -> LabelCounts:
    """Count the labelled ones of these triggers; None: of all."""
    standing = standing_labels(triggers)
    newest = LabelRow
    query = (
        select(newest.label, contradicts(standing), func.count())
        .select_from(standing)
        .join(newest, newest.id == standing.c.newest)
        .join(VerdictRow, VerdictRow.trigger_id == standing.c.trigger_id)
        .group_by(newest.label, contradicts(standing))
    )
    counts = {"good": 0, "bad": 0, "disagreements": 0}
    for label, disagreeing, count in connection.execute(query):
        counts[label] += count
        counts["disagreements"] += count if disagreeing else 0
    return LabelCounts(**counts)


def labels(engine: Engine, wanted: LabelFilter, limit: int) -> list[LabelEntry]:
    """Return labels, the newest first. Raises LedgerError."""
    query = _entries().where(*wanted.conditions(LabelRow))
    with translated(engine), engine.connect() as connection:
        found = connection.execute(query.order_by(LabelRow.id.desc()).limit(limit))
        return [_entry(row) for row in found]


def labels_of(connection: Connection, trigger: int) -> list[LabelEntry]:
    """Return all labels of a trigger, the newest first."""
    query = _entries().where(LabelRow.trigger_id == trigger).order_by(LabelRow.id.desc())
    return [_entry(row) for row in connection.execute(query)]


def disagreements(engine: Engine, wanted: LabelFilter, limit: int) -> list[Disagreement]:
    """Return them, those with the newest label first. Raises LedgerError.

    `since` and `before` are of the newest label.
    """
    standing = standing_labels()
    query = (
        select(standing.c.trigger_id)
        .select_from(standing)
        .join(LabelRow, LabelRow.id == standing.c.newest)
        .join(TriggerRow, TriggerRow.id == standing.c.trigger_id)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == standing.c.trigger_id)
        .where(contradicts(standing), *wanted.conditions(LabelRow))
        .order_by(standing.c.newest.desc())
        .limit(limit)
    )
    with translated(engine), engine.connect() as connection:
        triggers = list(connection.execute(query).scalars())
        last = _entries().where(LabelRow.trigger_id.in_(triggers), LabelRow.id.in_(_last(triggers)))
        of_trigger: dict[int, list[LabelEntry]] = defaultdict(list)
        for row in connection.execute(last.order_by(LabelRow.id.desc())):
            of_trigger[row.trigger_id].append(_entry(row))
    return [_disagreement(of_trigger[trigger]) for trigger in triggers]


def _disagreement(entries: list[LabelEntry]) -> Disagreement:
    newest = entries[0]
    between = ["people"] if len({entry.label for entry in entries}) > 1 else []
    if (newest.verdict.value, newest.label) in {("PASS", "bad"), ("FAIL", "good")}:
        between.append("verdict")
    return Disagreement.model_validate({"between": between, "labels": entries})


def _last(triggers: Sequence[int] | None = None) -> Any:
    """Select the last label of each person on each trigger."""
    query = select(func.max(LabelRow.id)).group_by(LabelRow.trigger_id, LabelRow.labeller)
    return query if triggers is None else query.where(LabelRow.trigger_id.in_(triggers))


def standing_labels(triggers: Sequence[int] | None = None) -> Subquery:
    """Select each labelled trigger with its newest label and how many different ones there are."""
    return (
        select(
            LabelRow.trigger_id,
            func.max(LabelRow.id).label("newest"),
            func.count(LabelRow.label.distinct()).label("different"),
        )
        .where(LabelRow.id.in_(_last(triggers)))
        .group_by(LabelRow.trigger_id)
        .subquery()
    )


def contradicts(standing: Subquery) -> ColumnElement[bool]:
    """Say whether people disagree, or the newest label (`LabelRow`) with the verdict."""
    return or_(
        standing.c.different > 1,
        and_(VerdictRow.verdict == "PASS", LabelRow.label == "bad"),
        and_(VerdictRow.verdict == "FAIL", LabelRow.label == "good"),
    )


_COLUMNS = {
    "station": Stream.station,
    "camera": Stream.camera,
    "epoch": Stream.epoch,
    "sequence": TriggerRow.sequence,
    "part_id": TriggerRow.part_id,
    "verdict": VerdictRow.verdict,
    "score": VerdictRow.score,
}


def _entries() -> Any:
    own = (LabelRow.__table__.c[name] for name in LabelRow.__table__.c.keys())  # noqa: SIM118 -- no dict
    return (
        select(*own, *_COLUMNS.values())
        .select_from(LabelRow)
        .join(TriggerRow, TriggerRow.id == LabelRow.trigger_id)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == LabelRow.trigger_id)
    )


def _entry(row: Row[Any]) -> LabelEntry:
    return LabelEntry.model_validate(row._asdict())
