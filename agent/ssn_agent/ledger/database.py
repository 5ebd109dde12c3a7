"""Open the ledger's database, bring it to this version's schema, translate its errors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ssn_agent.errors import LedgerDamaged, LedgerError, LedgerTimeout

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 200
"""Short: whoever waits here decides no verdicts meanwhile."""
STEPS_BETWEEN_LOOKS = 10_000
"""Of SQLite's machine, until the clock is looked at: well below a millisecond."""
_INTERRUPTED = "interrupted"
_DAMAGED = ("database disk image is malformed", "file is not a database")
"""What SQLite says; Python 3.10 does not pass its codes on."""


def open_database(
    path: Path, *, read_only: bool = False, synced: bool = True, limit_s: float | None = None
) -> Engine:
    """Return an engine on the file. A commit is on the disk when it returns (WAL, FULL).

    Where it need not be `synced`, a power cut may undo the last commits, and nobody waits for them.
    Such an engine keeps no connection, nor does one that only reads: SQLite has all connections of
    a process share a file's log, and one that stays open would keep the writer from a file system
    that was mounted anew.

    What reads for longer than `limit_s` is ended with LedgerTimeout: that is counted from the
    connection's beginning, so it is for an engine that keeps none.
    """
    database, query = str(path), {}
    if read_only:
        database, query = f"file:{quote(str(path))}", {"mode": "ro", "uri": "true"}
    url = URL.create("sqlite", database=database, query=query)
    engine = create_engine(url, poolclass=None if synced and not read_only else NullPool)

    def configure(connection: Any, record: object) -> None:
        del record
        # Python's driver begins transactions by itself, but not before a change of the schema: a
        # migration that fails would leave half of one.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        cursor.close()
        if limit_s is not None:
            until = time.monotonic() + limit_s
            connection.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a revision. Raises LedgerError."""
    try:
        with translated(engine), engine.begin() as connection:
            command.upgrade(alembic_config(connection), revision)
    except CommandError as error:
        msg = f"{file_of(engine)}: {error}; it was written by a newer version: update the agent"
        raise LedgerError(msg) from error


def revisions(engine: Engine) -> tuple[str | None, str | None, set[str]]:
    """Return the file's schema, the newest that this version has, and all that it knows.

    Raises LedgerError.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    with translated(engine), engine.connect() as connection:
        has = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return has, scripts.get_current_head(), known


def alembic_config(connection: Connection) -> Config:
    """Return what Alembic's commands need to work on the connection, in its transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def check(engine: Engine) -> None:
    """Have SQLite look at every page. Raises LedgerDamaged, LedgerError.

    Takes seconds a gigabyte, and nobody waits for it: WAL lets the writer go on.
    """
    with translated(engine), engine.connect() as connection:
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise _damaged(engine, str(found).splitlines()[0])


def _damaged(engine: Engine, problem: str) -> LedgerDamaged:
    return LedgerDamaged(f"{file_of(engine)}: is damaged ({problem})")


def file_of(engine: Engine) -> str:
    """Return the database's file."""
    name = engine.url.database or ""
    return unquote(name.removeprefix("file:")) if name.startswith("file:") else name


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn the database's errors into LedgerError, naming the file."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        if str(cause).startswith(_DAMAGED):
            raise _damaged(engine, str(cause)) from error
        if str(cause) == _INTERRUPTED:
            msg = f"{file_of(engine)}: reading took too long; ask for less"
            raise LedgerTimeout(msg) from error
        msg = (
            f"{file_of(engine)}: the ledger cannot be used ({cause}); check disk space, "
            "permissions and the file"
        )
        raise LedgerError(msg) from error
