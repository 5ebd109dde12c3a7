"""The one writer of labels: a row each, never changed, and what has become of each one said.

A label is the same as one that is there where its labeller gave both the same id. Without an id it
is where it says the same as the labeller's last one on that verdict: MQTT and HTTP deliver again
what was not acknowledged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from sqlalchemy import Connection, Engine, Select, func, insert, select

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.label_query import count_labels
from ssn_agent.ledger.tables import LabelRow, Stream, TriggerRow
from ssn_contract.http import LabelAnswer, LabelSource
from ssn_contract.messages import Label, LabelCounts


@dataclass(frozen=True)
class Said:
    """A label, and the way that it came."""

    label: Label
    source: LabelSource


class LabelWriter:
    """Writes. Used by one process at a time: the ledger process, or a command where none runs."""

    def __init__(self, engine: Engine, station: str) -> None:
        """Take the ledger's engine; verdicts of other stations are not labelled here."""
        self._engine = engine
        self._station = station
        self._counts: LabelCounts | None = None

    def write(self, said: Sequence[Said]) -> list[LabelAnswer]:
        """Commit labels, in this order, in one transaction; answer each. Raises LedgerError."""
        with translated(self._engine), self._engine.begin() as connection:
            found = [self._trigger(connection, item.label) for item in said]
            labelled = sorted({trigger for trigger in found if isinstance(trigger, int)})
            before = count_labels(connection, labelled)
            answers = [
                self._write(connection, trigger, item)
                for trigger, item in zip(found, said, strict=True)
            ]
            after = count_labels(connection, labelled)
        self._change(before, after)
        return answers

    def forget(self, gone: LabelCounts) -> None:
        """Take labelled verdicts that were deleted out of the counts."""
        self._change(gone, LabelCounts(good=0, bad=0, disagreements=0))

    def counts(self) -> LabelCounts:
        """Return how many verdicts are labelled, and how. Raises LedgerError.

        Counted once; what comes is added, and what goes taken away.
        """
        if self._counts is None:
            with translated(self._engine), self._engine.connect() as connection:
                self._counts = count_labels(connection)
        return self._counts

    def close(self) -> None:
        """Close the database; what uses it next opens it anew."""
        self._engine.dispose()

    def _change(self, before: LabelCounts, after: LabelCounts) -> None:
        now = self._counts
        if now is not None:  # never below nothing: a commit that failed may be there all the same
            self._counts = LabelCounts(
                good=max(0, now.good + after.good - before.good),
                bad=max(0, now.bad + after.bad - before.bad),
                disagreements=max(
                    0, now.disagreements + after.disagreements - before.disagreements
                ),
            )

    def _trigger(self, connection: Connection, label: Label) -> int | LabelAnswer:
        """Return the verdict's trigger, or the answer that there is none."""
        of_stream = select(Stream.id, Stream.station).where(
            Stream.camera == label.camera, Stream.epoch == label.epoch
        )
        stations = {row.station: row.id for row in connection.execute(of_stream)}
        if self._station not in stations:
            return _unknown(_no_stream(label, stations))
        stream = stations[self._station]
        trigger = (
            select(TriggerRow.id)
            .where(TriggerRow.stream_id == stream, TriggerRow.sequence == label.sequence)
            .limit(1)
        )
        found = connection.execute(trigger).scalar()
        if found is not None:
            return int(found)
        newest = select(func.max(TriggerRow.sequence)).where(TriggerRow.stream_id == stream)
        highest = connection.execute(newest).scalar() or 0
        if label.sequence > highest:
            return _unknown(f"number {label.sequence} of {label.camera} has no verdict yet")
        return _unknown(f"number {label.sequence} of {label.camera} is no longer in the ledger")

    def _write(self, connection: Connection, trigger: int | LabelAnswer, said: Said) -> LabelAnswer:
        if isinstance(trigger, LabelAnswer):
            return trigger
        label = said.label
        content = {
            "trigger_id": trigger,
            "label": label.label,
            "defect_type": label.defect_type,
            "reason": label.reason,
        }
        known = connection.execute(_same(label, trigger)).first()
        if known is not None and content == {name: getattr(known, name) for name in content}:
            return _answer("repeated", known.id, known.labelled_at)
        if known is not None and label.id is not None:
            return LabelAnswer(
                status="conflict",
                problem=f"the id {label.id!r} of {label.labeller!r} is that of another label; "
                "give each label its own",
            )
        row = {
            **content,
            "labeller": label.labeller,
            "labelled_at": datetime.now(timezone.utc),
            "source": said.source,
            "message_id": label.id,
        }
        new = insert(LabelRow).values(row).returning(LabelRow.id, LabelRow.labelled_at)
        kept = connection.execute(new).one()
        return _answer("kept", kept.id, kept.labelled_at)


def _same(label: Label, trigger: int) -> "Select[LabelRow]":
    """Select the one row that the label may be the same as."""
    of_labeller = select(LabelRow.__table__).where(LabelRow.labeller == label.labeller)
    if label.id is not None:
        return of_labeller.where(LabelRow.message_id == label.id)
    here = of_labeller.where(LabelRow.trigger_id == trigger)
    return here.order_by(LabelRow.id.desc()).limit(1)


def _answer(status: Literal["kept", "repeated"], row: int, at: datetime) -> LabelAnswer:
    return LabelAnswer(status=status, id=row, labelled_at=at)


def _unknown(problem: str) -> LabelAnswer:
    return LabelAnswer(status="unknown", problem=problem)


def _no_stream(label: Label, stations: Iterable[str]) -> str:
    """Say why none of our verdicts can be meant."""
    epoch = f"epoch {label.epoch} of camera {label.camera}"
    others = ", ".join(sorted(stations))
    return f"{epoch} is of station {others}" if others else f"{epoch} is not in this ledger"
