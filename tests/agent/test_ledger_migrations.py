"""A ledger with data comes up from each older schema, and goes back down, with nothing lost."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, text

from ssn_agent.ledger.database import MIGRATIONS, migrate, open_database

STREAM = text(
    "INSERT INTO streams (id, station, camera, epoch, opened_at) "
    "VALUES (:id, 's', 'c', :epoch, '2026-01-01')"
)
TRIGGER = text(
    "INSERT INTO triggers (id, stream_id, sequence, triggered_at) "
    "VALUES (:id, :stream, :id, '2026-01-01')"
)
VERDICT = text(
    "INSERT INTO verdicts "
    "(trigger_id, verdict, reason, settings_digest, decided_at, latency_ms, deadline_ms) "
    "VALUES (:id, :verdict, :reason, 'd', '2026-01-01', 1, 2)"
)
VERDICTS = [  # stream, verdict, reason
    (1, "PASS", None),
    (1, "PASS", None),
    (1, "FAIL", None),
    (1, "INVALID", "late"),
    (1, "INVALID", "late"),
    (1, "INVALID", "lost"),
    (2, "PASS", None),
]
COUNTED = [
    (1, "FAIL", "", 1),
    (1, "INVALID", "late", 2),
    (1, "INVALID", "lost", 1),
    (1, "PASS", "", 2),
    (2, "PASS", "", 1),
]


@pytest.fixture
def first(tmp_path: Path) -> Engine:
    """A ledger of the first schema, with verdicts of two streams in it."""
    engine = open_database(tmp_path / "ledger.sqlite")
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(STREAM, [{"id": n, "epoch": f"{n:032x}"} for n in (1, 2)])
        rows = [
            {"id": number, "stream": stream, "verdict": verdict, "reason": reason}
            for number, (stream, verdict, reason) in enumerate(VERDICTS, start=1)
        ]
        connection.execute(TRIGGER, rows)
        connection.execute(VERDICT, rows)
    return engine


def downgrade(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def read(engine: Engine, sql: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_the_verdicts_of_an_older_ledger_are_counted_when_it_is_brought_up(first: Engine) -> None:
    migrate(first)
    assert read(first, "SELECT * FROM verdict_counts ORDER BY 1, 2, 3") == COUNTED


def test_the_way_back_drops_the_counts_and_keeps_every_verdict(first: Engine) -> None:
    before = read(first, "SELECT * FROM verdicts")
    migrate(first)
    downgrade(first, "0001")
    assert "verdict_counts" not in inspect(first).get_table_names()
    assert read(first, "SELECT * FROM verdicts") == before
    migrate(first)
    assert read(first, "SELECT * FROM verdict_counts ORDER BY 1, 2, 3") == COUNTED


def test_the_way_back_drops_the_times_of_frames_and_keeps_their_triggers(first: Engine) -> None:
    migrate(first)
    with first.begin() as connection:
        connection.execute(text("UPDATE triggers SET captured_at = '2026-01-01', frame_id = 7"))
    downgrade(first, "0002")
    assert "captured_at" not in {c["name"] for c in inspect(first).get_columns("triggers")}
    assert read(first, "SELECT DISTINCT frame_id FROM triggers") == [(7,)]
    migrate(first)
    assert read(first, "SELECT captured_at, frame_id FROM triggers LIMIT 1") == [(None, 7)]


def test_the_way_back_drops_the_labels_and_keeps_every_verdict(first: Engine) -> None:
    migrate(first)
    before = read(first, "SELECT trigger_id, verdict, decided_at FROM verdicts")
    with first.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO labels (trigger_id, label, labeller, labelled_at, source) "
                "VALUES (1, 'bad', 'm.weber', '2026-01-01', 'cli')"
            )
        )
    downgrade(first, "0003")
    assert "labels" not in inspect(first).get_table_names()
    assert read(first, "SELECT trigger_id, verdict, decided_at FROM verdicts") == before
    migrate(first)
    assert read(first, "SELECT * FROM labels") == []


def test_the_way_back_drops_models_and_pictures_and_keeps_every_verdict(first: Engine) -> None:
    migrate(first)
    with first.begin() as connection:
        connection.execute(text("UPDATE verdicts SET image_file = '/p/1.png', challenge = 'good'"))
    before = read(first, "SELECT trigger_id, verdict, decided_at FROM verdicts")
    downgrade(first, "0004")
    assert "model_events" not in inspect(first).get_table_names()
    assert read(first, "SELECT trigger_id, verdict, decided_at FROM verdicts") == before
    migrate(first)
    assert read(first, "SELECT image_file, challenge FROM verdicts LIMIT 1") == [(None, None)]
