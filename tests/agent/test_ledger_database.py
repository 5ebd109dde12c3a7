"""The database: its schema, its migrations, and what it says when it cannot be used."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from ssn_agent.errors import LedgerDamaged, LedgerError
from ssn_agent.ledger import database
from ssn_agent.ledger.database import (
    MIGRATIONS,
    check,
    migrate,
    open_database,
    revisions,
    translated,
)
from ssn_agent.ledger.tables import Base
from support.ledgers import damage


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = open_database(tmp_path / "ledger.sqlite")
    migrate(made)
    return made


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def downgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def test_the_migrations_make_the_very_tables_that_the_code_uses(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    made = {index["name"] for index in inspect(engine).get_indexes("outbox")}
    assert "ix_outbox_undelivered" in made


def test_migrating_again_keeps_what_is_there(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO settings_changes (at, who, new_digest, new) "
                "VALUES ('2026-01-01 00:00:00', 'start', 'd', '{}')"
            )
        )
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT who FROM settings_changes")).scalars().all() == [
            "start"
        ]


def test_a_ledger_with_data_can_be_taken_down_and_brought_up_again(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in (
            (
                "INSERT INTO streams (id, station, camera, epoch, opened_at) "
                "VALUES (1, 's', 'c', '00000000000000000000000000000001', '2026-01-01')"
            ),
            (
                "INSERT INTO triggers (id, stream_id, sequence, triggered_at) "
                "VALUES (1, 1, 1, '2026-01-01')"
            ),
            "INSERT INTO outbox (trigger_id, topic) VALUES (1, 't')",
        ):
            connection.execute(text(statement))
    downgrade(engine)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(engine)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_a_commit_is_on_the_disk_when_it_returns(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_ledger_of_a_newer_version_is_refused_with_the_remedy(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="update the agent"):
        migrate(engine)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, though it is long enough to be one" * 99)
    with pytest.raises(LedgerDamaged, match=r"ledger\.sqlite.*not a database"):
        migrate(open_database(path))


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(tmp_path / "ledger.sqlite")
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts)
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    (scripts / "versions" / "9999_fails.py").write_text(
        "from alembic import op\n"
        f"revision = '9999'\ndown_revision = '{newest}'\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE half (id INTEGER)')\n"
        "    op.drop_table('defects')\n"
        "    op.drop_table('nowhere')\n"
    )
    monkeypatch.setattr(database, "MIGRATIONS", scripts)
    with pytest.raises(LedgerError, match="nowhere"):
        migrate(engine)
    assert dump(tmp_path / "ledger.sqlite") == before


def test_a_check_finds_a_page_that_was_written_over(engine: Engine, tmp_path: Path) -> None:
    check(engine)
    engine.dispose()
    damage(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerDamaged, match=r"ledger\.sqlite: is damaged"):
        check(open_database(tmp_path / "ledger.sqlite", read_only=True))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="absent/ledger"):
        migrate(open_database(tmp_path / "absent" / "ledger.sqlite"))


@pytest.mark.parametrize("name", ["100% sure.sqlite", "what?.sqlite", "a#b&c=d.sqlite", "ä.sqlite"])
def test_any_file_name_is_taken_as_it_is_for_writing_and_for_reading(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    migrate(open_database(path))
    assert path.is_file()
    with open_database(path, read_only=True).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM triggers")).scalar() == 0
    _, newest, _ = revisions(open_database(path))
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]


def test_a_reader_cannot_write(engine: Engine, tmp_path: Path) -> None:
    reader = open_database(tmp_path / "ledger.sqlite", read_only=True)
    with pytest.raises(LedgerError, match="readonly"), translated(reader), reader.begin() as link:
        link.execute(text("DELETE FROM triggers"))
    engine.dispose()
