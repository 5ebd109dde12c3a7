"""The ledger's schema back to one that an older agent knows: `ssn-agent ledger downgrade`.

The way up the agent goes by itself when it starts (`prepare`). The way back is known to the newer
agent alone, so it is gone before the older one is installed; the Debian package does so by itself
(docs/adr/0020-debian-package.md). All of it is one transaction: a step that fails changes nothing.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from ssn_agent.errors import LedgerError, UsageError
from ssn_agent.frames.lock import take_runtime
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.database import alembic_config, open_database, translated
from ssn_agent.ledger.seal import break_seal, seal
from ssn_agent.settings import Settings


def downgrade(settings: Settings, revision: str, *, force: bool) -> list[str]:
    """Take the ledger back to a revision; return the steps with what they dropped, newest first.

    Nothing is done where the schema is that one or an older one, or no ledger is there. No agent
    may run, and the caller is the ledger's owner: what another user wrote the agent could not use.
    Numbers go on afterwards as they would have: the seal is renewed. `force` lets tables of
    people's work go, too. Raises UsageError, LedgerError, LedgerDamaged.
    """
    path = settings.ledger_path
    if not _is_there(path):
        return []
    lock = take_runtime(RuntimeFiles(settings.runtime_dir))
    try:
        was_sealed = break_seal(path)
        try:
            return _downgrade(path, revision, force=force)
        finally:
            if was_sealed:
                seal(path)
    except OSError as error:
        msg = f"{path}: cannot be taken back ({error.strerror}); check the folder"
        raise LedgerError(msg) from error
    finally:
        os.close(lock)


def _downgrade(path: Path, revision: str, *, force: bool) -> list[str]:
    engine = open_database(path)
    try:
        with translated(engine), engine.begin() as connection:
            steps = _way_back(connection, revision)
            if not force:
                _spare(connection, path, steps)
            if steps:
                command.downgrade(alembic_config(connection), revision)
    except CommandError as error:
        msg = f"{path}: {error}; only the agent that wrote it, or a newer one, knows the way back"
        raise LedgerError(msg) from error
    finally:
        engine.dispose()
    return [f"{step.revision}: {' '.join(step.longdoc.split())}" for step in steps]


def _way_back(connection: Connection, revision: str) -> Sequence[Script]:
    """Return the migrations to be undone, the newest first. Raises CommandError."""
    scripts = ScriptDirectory.from_config(alembic_config(connection))
    current = MigrationContext.configure(connection).get_current_revision()
    as_old = {script.revision for script in scripts.walk_revisions("base", revision)}
    if current is None or current in as_old:
        return []
    *steps, _ = scripts.walk_revisions(revision, current)
    return steps


def _spare(connection: Connection, path: Path, steps: Sequence[Script]) -> None:
    """Raise UsageError where a step would drop what people have said."""
    for step in steps:
        for table in getattr(step.module, "precious", ()):
            counted = f"SELECT count(*) FROM {table}"  # noqa: S608 -- our migrations name it
            rows = connection.execute(text(counted)).scalar_one()
            if rows:
                msg = (
                    f"{path}: on the way back {rows} rows of {table} would be lost; export them "
                    "first (docs/operations.md), then say --force"
                )
                raise UsageError(msg)


def _is_there(path: Path) -> bool:
    """Say whether there is a ledger, which then is ours. Raises UsageError, LedgerError."""
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return False
    except OSError as error:
        msg = f"{path}: cannot be looked at ({error.strerror}); run this as the ledger's owner"
        raise LedgerError(msg) from error
    if owner != os.geteuid():
        msg = f"{path}: belongs to another user; run this as its owner (runuser -u ssn-agent)"
        raise UsageError(msg)
    return True
