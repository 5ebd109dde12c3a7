"""A real ledger in a temporary folder, and settings to go with it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Decision
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.verdicts import Decided, VerdictWriter
from ssn_agent.ledger.writer import LedgerWriter
from ssn_agent.settings import Settings


def settings_in(folder: Path, names: tuple[str, ...] = ("left",), **changes: Any) -> Settings:
    """Return settings with folder cameras, whose data and runtime files lie in `folder`."""
    source = {"kind": "folder", "path": str(folder / "images")}
    return Settings.model_validate(
        {
            "data_dir": folder / "data",
            "runtime_dir": folder / "run",
            "cameras": {name: {"source": source} for name in names},
            **changes,
        }
    )


def open_writer(settings: Settings) -> LedgerWriter:
    """Return a writer on the settings' ledger, which is made where it is not there."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    engine = open_database(settings.ledger_path)
    migrate(engine)
    return LedgerWriter(engine, str(settings.station), VerdictWriter(settings))


def decided(settings: Settings, journal: Journal, entry: Entry, decision: Decision) -> Decided:
    """Return a record with its verdict, ready to be committed."""
    message = VerdictWriter(settings).message(journal.header, entry, decision)
    return Decided(journal.header, entry, message)


def rows(settings: Settings, sql: str) -> list[Any]:
    """Read the ledger with SQLite itself."""
    with closing(sqlite3.connect(settings.ledger_path)) as connection:
        return connection.execute(sql).fetchall()


def damage(ledger: Path) -> None:
    """Write over the pages of a database behind its first one, where the schema is."""
    with ledger.open("r+b") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
