"""`ssn-agent ledger downgrade`: back to what an older agent can read, whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from ssn_agent.errors import LedgerDamaged, LedgerError, UsageError
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.lock import take_runtime
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger import database
from ssn_agent.ledger.database import MIGRATIONS, migrate, open_database
from ssn_agent.ledger.downgrade import downgrade
from ssn_agent.ledger.prepare import prepare
from ssn_agent.ledger.seal import break_seal, seal
from ssn_agent.settings import Settings
from support.labelled import write_verdicts
from support.ledgers import damage, open_writer, rows, settings_in
from support.records import EPOCH

REVISION = "SELECT version_num FROM alembic_version"
VERDICTS = "SELECT trigger_id, verdict, decided_at FROM verdicts"
LABEL = (
    "INSERT INTO labels (trigger_id, label, labeller, labelled_at, source) "
    "VALUES (1, 'bad', 'm.weber', '2026-01-01', 'cli')"
)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A ledger with two verdicts, closed in order."""
    made = settings_in(tmp_path)
    write_verdicts(made, tmp_path / "left.journal", [Outcome.PASS, Outcome.FAIL])
    writer = open_writer(made)
    writer.open_stream("left", EPOCH)
    writer.close_stream("left", EPOCH, 2)
    writer.close()
    seal(made.ledger_path)
    return made


def label(settings: Settings) -> None:
    engine = open_database(settings.ledger_path)
    with engine.begin() as connection:
        connection.exec_driver_sql(LABEL)
    engine.dispose()


def newest() -> str:
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def test_the_ledger_goes_down_says_what_went_keeps_verdicts_and_comes_up_again(
    ssn_agent: Command, settings: Settings
) -> None:
    before = rows(settings, VERDICTS)
    config = settings.data_dir / "agent.toml"
    config.write_text(
        f"data_dir = '{settings.data_dir}'\nruntime_dir = '{settings.runtime_dir}'\n"
        "[cameras.left.source]\nkind = 'folder'\npath = '/images'\n"
    )
    code, said, _ = ssn_agent("ledger", "downgrade", "--to", "0003", "-c", config)
    assert code == 0
    undone = [line.split()[1] for line in said.splitlines() if line.startswith("undone: ")]
    assert undone == [f"{int(newest()) - n:04}:" for n in range(int(newest()) - 3)]
    assert "0004: What people say of verdicts. Back down the labels go" in said
    assert rows(settings, REVISION) == [("0003",)]
    assert rows(settings, VERDICTS) == before
    migrate(open_database(settings.ledger_path))
    assert rows(settings, VERDICTS) == before


def test_labels_are_lost_by_force_alone(settings: Settings) -> None:
    label(settings)
    with pytest.raises(UsageError, match=r"1 rows of labels would be lost.*--force"):
        downgrade(settings, "0002", force=False)
    assert rows(settings, REVISION) == [(newest(),)]
    downgrade(settings, "0004", force=False)  # not as far as the labels
    assert rows(settings, "SELECT labeller FROM labels") == [("m.weber",)]
    downgrade(settings, "0002", force=True)
    assert rows(settings, REVISION) == [("0002",)]


def test_numbers_go_on_after_it_as_they_would_have(settings: Settings) -> None:
    downgrade(settings, "0004", force=False)
    assert break_seal(settings.ledger_path)
    downgrade(settings, "0003", force=False)
    assert not break_seal(settings.ledger_path)  # what was not sealed before does not become so


@pytest.mark.parametrize("revision", ["0003", "0002"])
def test_a_ledger_that_is_as_old_already_is_left_alone(settings: Settings, revision: str) -> None:
    downgrade(settings, "0002", force=False)
    assert downgrade(settings, revision, force=False) == []
    assert rows(settings, REVISION) == [("0002",)]


def test_where_there_is_no_ledger_yet_there_is_nothing_to_do(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert downgrade(settings, "0003", force=False) == []
    assert not settings.data_dir.exists()


def test_no_schema_changes_under_an_agent_that_runs(settings: Settings) -> None:
    lock = take_runtime(RuntimeFiles(settings.runtime_dir))
    with pytest.raises(UsageError, match="an agent runs here"):
        downgrade(settings, "0003", force=False)
    os.close(lock)
    assert rows(settings, REVISION) == [(newest(),)]


def test_another_users_ledger_is_left_to_its_owner(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="run this as its owner"):
        downgrade(settings, "0003", force=False)
    assert rows(settings, REVISION) == [(newest(),)]


@pytest.mark.parametrize("fault", ["target", "ledger"])
def test_a_revision_that_this_agent_does_not_know_is_refused(
    settings: Settings, fault: str
) -> None:
    if fault == "ledger":
        engine = open_database(settings.ledger_path)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        engine.dispose()
    to = {"target": "1234", "ledger": "0003"}[fault]
    with pytest.raises(LedgerError, match="or a newer one, knows the way back"):
        downgrade(settings, to, force=False)


def test_a_way_back_that_fails_leaves_the_ledger_and_its_seal_as_they_were(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts)
    (scripts / "versions" / "9999_fails.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{newest()}'\n"
        "def upgrade():\n    pass\n"
        "def downgrade():\n"
        "    op.drop_table('defects')\n"
        "    op.drop_table('nowhere')\n"
    )
    monkeypatch.setattr(database, "MIGRATIONS", scripts)
    assert break_seal(settings.ledger_path)
    engine = open_database(settings.ledger_path)
    migrate(engine)
    engine.dispose()
    seal(settings.ledger_path)
    with pytest.raises(LedgerError, match="nowhere"):
        downgrade(settings, newest(), force=False)
    assert rows(settings, REVISION) == [("9999",)]
    assert rows(settings, "SELECT count(*) FROM defects") == [(1,)]
    assert break_seal(settings.ledger_path)


def test_an_agent_starts_on_what_came_down_and_keeps_its_epoch(settings: Settings) -> None:
    downgrade(settings, "0003", force=False)
    epochs = rows(settings, "SELECT epoch FROM streams")
    prepare(settings)
    assert rows(settings, "SELECT epoch FROM streams") == epochs
    assert rows(settings, REVISION) == [(newest(),)]


def test_a_damaged_file_is_named(settings: Settings) -> None:
    damage(settings.ledger_path)
    with pytest.raises(LedgerDamaged, match=r"ledger\.sqlite: is damaged"):
        downgrade(settings, "0003", force=False)
