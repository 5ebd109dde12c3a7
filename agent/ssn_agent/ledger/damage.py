"""A ledger whose file is damaged is set aside, never written over; a new one begins.

What found the damage sets the file aside and ends. The next start makes a new ledger, and numbers
go on in a new epoch: what the old ledger held cannot be proven any more.
"""

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import func, select

from ssn_agent.errors import LedgerDamaged, LedgerError
from ssn_agent.ledger.database import check, open_database, translated
from ssn_agent.ledger.tables import OutboxRow
from ssn_agent.log import logger

CHECK_INTERVAL_S = 24 * 3600.0
_BESIDE = ("", "-wal", "-shm")
"""What belongs to a database, and goes with it: the main file first, which the others need."""


def set_aside(ledger: Path) -> Path:
    """Rename a ledger and what lies beside it; return the main file's new name. Raises OSError.

    No connection of this process may be closed after that: it would write into the file.
    """
    aside = ledger.with_name(f"{ledger.name}.damaged-{datetime.now(timezone.utc):%Y%m%dT%H%M%S}")
    for suffix in _BESIDE:
        part = Path(f"{ledger}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    logger().error("the damaged ledger is set aside", file=str(aside), undelivered=_waiting(aside))
    return aside


def finish_setting_aside(ledger: Path) -> None:
    """Rename what a set-aside left that was cut off: SQLite deletes a log beside a new database."""
    parts = [Path(f"{ledger}{suffix}") for suffix in _BESIDE[1:]]
    if not ledger.exists() and any(part.exists() for part in parts):
        newest = max(set_asides(ledger), default=None)
        for part, suffix in zip(parts, _BESIDE[1:], strict=True):
            if part.exists():
                part.rename(f"{newest or ledger.with_name(ledger.name + '.damaged')}{suffix}")


def set_asides(ledger: Path) -> Iterator[Path]:
    """Yield the main files of damaged ledgers that lie beside this one."""
    for path in ledger.parent.glob(f"{ledger.name}.damaged-*"):
        if not path.name.endswith(_BESIDE[1:]):
            yield path


def alarms(ledger: Path) -> list[str]:
    """Say which damaged ledgers wait for somebody to look at them."""
    return [
        f"ledger: {path.name} was damaged and set aside; save it elsewhere"
        for path in sorted(set_asides(ledger))
    ]


class IntegrityCheck:
    """Looks at the whole file at the start and once a day, in a thread, without writing."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._thread: threading.Thread | None = None
        self._next_at = 0.0
        self._problem: LedgerDamaged | None = None

    def turn(self) -> None:
        """Start a check that is due. Raises LedgerDamaged where the last one found damage."""
        if self._problem is not None:
            raise self._problem
        now = time.monotonic()
        if now >= self._next_at and (self._thread is None or not self._thread.is_alive()):
            self._next_at = now + CHECK_INTERVAL_S
            self._thread = threading.Thread(target=self._check, daemon=True)
            self._thread.start()

    def _check(self) -> None:
        try:
            engine = open_database(self._ledger, read_only=True)
            try:
                check(engine)
            finally:
                engine.dispose()
        except LedgerDamaged as error:
            self._problem = error
        except LedgerError as error:  # the disk is away: the writer says so, too
            logger().warning("the ledger is not checked", problem=str(error))


def _waiting(aside: Path) -> int | str:
    """How many messages in it the broker has not acknowledged, where that can still be read."""
    engine = open_database(aside, read_only=True)
    waiting = OutboxRow.published_at.is_(None) & OutboxRow.problem.is_(None)
    try:
        with translated(engine), engine.connect() as connection:
            count = connection.execute(select(func.count()).select_from(OutboxRow).where(waiting))
            return int(count.scalar_one())
    except (LedgerDamaged, LedgerError):
        return "unknown"
    finally:
        engine.dispose()
