"""Verdicts that may go, deleted with all that hangs on them, a few at a time.

Their counts stay (`verdict_counts`). The pages of deleted rows are taken by the next ones: the file
does not shrink, and nothing is moved about to make it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, Select, delete, exists, func, select, text

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.label_query import count_labels
from ssn_agent.ledger.retention import LedgerSize
from ssn_agent.ledger.tables import DefectRow, LabelRow, OutboxRow, TriggerRow, VerdictRow
from ssn_contract.messages import LabelCounts

AT_ONCE = 50
"""Verdicts a transaction: milliseconds."""

_OLDEST = select(TriggerRow.id, TriggerRow.triggered_at).limit(AT_ONCE)
_UNLABELLED = ~exists().where(LabelRow.trigger_id == TriggerRow.id)
_NEWEST = select(func.max(TriggerRow.id))
_WAITING = (
    select(OutboxRow.trigger_id)
    .where(OutboxRow.published_at.is_(None), OutboxRow.problem.is_(None))
    .order_by(OutboxRow.id)
    .limit(1)
)


class Deletion:
    """Deletes. A verdict whose messages wait for the broker stays, and so does what came after it.

    The newest verdict stays, too: SQLite would give its row's number out again.
    """

    def __init__(
        self, engine: Engine, on_labelled_gone: Callable[[LabelCounts], None] = lambda _: None
    ) -> None:
        """Take an engine of the ledger that no other thread uses, and whom to tell of labels."""
        self._engine = engine
        self.labels = 0
        """Labels that have gone with their verdicts."""
        self._on_labelled_gone = on_labelled_gone

    def delete_before(self, before: datetime) -> list[datetime]:
        """Delete some verdicts that were triggered before a time; return their times.

        What people have labelled stays. Raises LedgerError.
        """
        by_time = _OLDEST.where(TriggerRow.triggered_at < before).order_by(TriggerRow.triggered_at)
        return self._delete(by_time.where(_UNLABELLED))

    def delete_oldest(self) -> list[datetime]:
        """Delete some of the oldest verdicts; return their times. Raises LedgerError.

        What people have labelled goes last, and its labels with it.
        """
        oldest = _OLDEST.order_by(TriggerRow.id)
        return self._delete(oldest.where(_UNLABELLED)) or self._delete(oldest)

    def size(self) -> LedgerSize:
        """Return the size of the database. Raises LedgerError."""
        with translated(self._engine), self._engine.connect() as connection:
            pages, spare, size = (
                int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return LedgerSize((pages - spare) * size, spare * size)

    def _delete(self, query: "Select[int, datetime]") -> list[datetime]:
        with translated(self._engine), self._engine.begin() as connection:
            found = connection.execute(query).all()
            end = _end(connection) if found else 0
            gone = {row.id: row.triggered_at for row in found if row.id < end}
            labelled = count_labels(connection, list(gone))
            labels = _delete_all(connection, list(gone)) if gone else 0
        self.labels += labels
        if labels:
            self._on_labelled_gone(labelled)
        return list(gone.values())


def _end(connection: Connection) -> int:
    """Return the first trigger that has to stay."""
    waiting = connection.execute(_WAITING).scalar()
    newest: int = connection.execute(_NEWEST).scalar_one()
    return newest if waiting is None else min(newest, waiting)


def _delete_all(connection: Connection, ids: Sequence[int]) -> int:
    """Delete verdicts with all that hangs on them; return how many labels went."""
    labels = connection.execute(delete(LabelRow).where(LabelRow.trigger_id.in_(ids))).rowcount
    for table in (OutboxRow, DefectRow, VerdictRow):
        connection.execute(delete(table).where(table.trigger_id.in_(ids)))
    connection.execute(delete(TriggerRow).where(TriggerRow.id.in_(ids)))
    return labels
