"""A copy of the ledger as it stands at one moment, while the agent goes on writing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

from sqlalchemy import Engine

from ssn_agent.atomic import atomic_path
from ssn_agent.errors import LedgerError, UsageError
from ssn_agent.ledger.database import check, file_of, open_database, translated

MODE = 0o640
"""As the service's own files: part ids and settings are nobody else's."""


def backup(engine: Engine, out: Path, *, replace: bool) -> None:
    """Copy the ledger to `out`, which appears whole and checked, or not at all.

    SQLite's backup API, in one step: it reads one moment's state, and holds no writer up. What is
    written meanwhile stays in the ledger's log, which is as much longer. Raises UsageError where
    `out` is there already (unless it is to be replaced), LedgerError, LedgerDamaged.
    """
    if out.exists() and not replace:
        msg = f"{out}: is there already; name another file, or replace it with --force"
        raise UsageError(msg)
    if out.exists() and out.samefile(file_of(engine)):
        msg = f"{out}: is the ledger itself; name another file"
        raise UsageError(msg)
    try:
        with atomic_path(out, MODE) as copy:
            _copy(engine, copy)
            checked = open_database(copy, read_only=True)
            check(checked)
            checked.dispose()
    except (OSError, sqlite3.Error) as error:
        msg = f"{out}: the backup cannot be made ({error}); name a file on a disk with room"
        raise LedgerError(msg) from error


def _copy(engine: Engine, copy: Path) -> None:
    with (
        translated(engine),
        engine.connect() as connection,
        closing(sqlite3.connect(copy)) as target,
    ):
        source = cast("sqlite3.Connection", connection.connection.driver_connection)
        target.execute("PRAGMA synchronous=OFF")  # it is synced as a whole, when it is whole
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
