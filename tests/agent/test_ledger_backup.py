"""A backup holds the ledger of one moment, whole and sound, or there is none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.errors import LedgerDamaged, LedgerError, UsageError
from ssn_agent.ledger.backup import backup
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.reader import open_ledger
from ssn_agent.settings import Settings
from support.ledgers import open_writer, settings_in
from support.records import EPOCH


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    open_writer(made).open_stream("left", EPOCH)  # and goes on having it open
    return made


def cameras(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT camera FROM streams")]


def test_a_backup_is_one_file_that_nobody_else_reads_and_holds_what_is_still_in_the_log(
    settings: Settings, tmp_path: Path
) -> None:
    assert Path(f"{settings.ledger_path}-wal").stat().st_size > 0
    out = tmp_path / "out" / "ledger.sqlite"
    out.parent.mkdir()
    backup(open_ledger(settings.ledger_path), out, replace=False)
    assert [path.name for path in out.parent.iterdir()] == ["ledger.sqlite"]
    assert cameras(out) == ["left"]
    assert out.stat().st_mode & 0o007 == 0


def test_a_file_that_is_there_is_replaced_when_asked_for_alone_and_the_ledger_never(
    settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out.sqlite"
    out.write_text("of value")
    engine = open_ledger(settings.ledger_path)
    with pytest.raises(UsageError, match="--force"):
        backup(engine, out, replace=False)
    assert out.read_text() == "of value"
    backup(engine, out, replace=True)
    assert cameras(out) == ["left"]
    with pytest.raises(UsageError, match="the ledger itself"):
        backup(engine, settings.ledger_path, replace=True)


def test_a_backup_that_fails_leaves_nothing_and_says_why(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(LedgerError, match="absent/out"):
        backup(open_ledger(settings.ledger_path), tmp_path / "absent" / "out", replace=False)
    damaged = tmp_path / "damaged.sqlite"
    with closing(sqlite3.connect(damaged)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    with damaged.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xa5" * 4096)
    out = tmp_path / "out"
    with pytest.raises((LedgerDamaged, LedgerError)):
        backup(open_database(damaged, read_only=True), out, replace=False)
    assert not list(tmp_path.glob("*out*"))
