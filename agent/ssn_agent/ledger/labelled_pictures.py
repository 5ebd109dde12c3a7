"""Which pictures people have labelled: they are deleted last."""

from pathlib import Path

from sqlalchemy import select

from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger.database import open_database, translated
from ssn_agent.ledger.tables import LabelRow, Stream, TriggerRow, VerdictRow

MAX_LABELLED = 100_000
"""The newest ones of so many labelled verdicts are told apart; more hardly fit on a disk."""


def labelled_pictures(ledger: Path, image_dir: Path) -> frozenset[str]:
    """Return the files of labelled verdicts' pictures. Raises LedgerError, LedgerDamaged."""
    query = (
        select(Stream.camera, Stream.epoch, TriggerRow.sequence)
        .select_from(TriggerRow)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == TriggerRow.id)
        .where(TriggerRow.id.in_(select(LabelRow.trigger_id)), VerdictRow.image_file.is_not(None))
        .order_by(TriggerRow.id.desc())
        .limit(MAX_LABELLED)
    )
    engine = open_database(ledger, read_only=True)
    with translated(engine), engine.connect() as connection:
        # Found by the key, as all who read them do: what a row says of a file is no path.
        return frozenset(str(image_path(image_dir, *row)) for row in connection.execute(query))
