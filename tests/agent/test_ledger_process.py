"""The ledger process with a real broker: verdicts go out whatever happens to the database."""

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ssn_agent.atomic import write_atomically
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger.process import LedgerProcess
from ssn_agent.ledger.seal import break_seal
from ssn_agent.publish.historical import HISTORICAL_AFTER_S
from ssn_agent.supervisor.note import SupervisorNote, write_note
from ssn_contract.messages import StationStatus
from support.ledger_process import Ledger, fed_ledger, verdicts
from support.ledgers import rows
from support.mosquitto import Mosquitto, Subscriber, running_mosquitto
from support.records import SETTINGS_DIGEST
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")


@pytest.fixture
def ledger(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Ledger]:
    with fed_ledger(tmp_path, mosquitto.port) as made:
        yield made


def test_a_heatmap_follows_its_verdict_and_one_whose_writer_was_killed_holds_nothing_up(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        lost, late = (ledger.part(Outcome.FAIL, heatmap=True) for _ in range(2))
        expected = [(lost, "FAIL", True), (late, "FAIL", True)]
        wait_until(lambda: verdicts(subscriber) == expected, 10, "verdicts wait for heatmaps")
        epoch = ledger.journal.header.epoch
        picture = image_path(ledger.settings.heatmap_dir, "left", epoch, late)
        picture.parent.mkdir(parents=True)
        write_atomically(picture, b"late")

        def heatmaps() -> list[bytes]:
            return [m.payload for m in subscriber.received() if "/heatmap/" in m.topic]

        wait_until(lambda: heatmaps() == [b"late"], 10, "the late heatmap is not sent")
        assert ledger.end(signal.SIGTERM) == 0
    left = "SELECT trigger_id, problem IS NULL, published_at IS NULL FROM outbox WHERE file NOTNULL"
    assert rows(ledger.settings, left) == [(lost, 0, 1), (late, 1, 0)]
    assert f"/heatmap/{lost}" in ledger.log.read_text()


def test_while_the_database_is_locked_verdicts_go_out_marked_and_are_committed_afterwards(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        ledger.part(Outcome.PASS)
        wait_until(lambda: (1, "PASS", True) in verdicts(subscriber), 10, "no first verdict")
        blocker = sqlite3.connect(ledger.settings.ledger_path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        # A second to the deadline: less than two attempts to write take.
        for outcome in (Outcome.FAIL, Outcome.PASS, Outcome.FAIL):
            sequence = ledger.part(outcome, deadline_s=1.0)
            expected = (sequence, outcome.name, False)
            wait_until(lambda e=expected: e in verdicts(subscriber), 10, "no marked verdict")  # type: ignore[misc]  # a default binds the loop's value
        assert not any(ledger.committed(sequence) for sequence in (2, 3, 4))
        blocker.execute("ROLLBACK")
        blocker.close()
        wait_until(lambda: (4, "FAIL", True) in verdicts(subscriber), 10, "not committed")
        assert all(ledger.committed(sequence) for sequence in (2, 3, 4))
        found = verdicts(subscriber)
    assert sorted(found) == [
        (1, "PASS", True),
        (2, "FAIL", False),
        (2, "FAIL", True),
        (3, "PASS", False),
        (3, "PASS", True),
        (4, "FAIL", False),
        (4, "FAIL", True),
    ]
    assert ledger.end(signal.SIGTERM) == 0
    query = "SELECT sequence, verdict FROM verdicts JOIN triggers ON id = trigger_id ORDER BY 1"
    stored = rows(ledger.settings, query)
    assert stored == [(1, "PASS"), (2, "FAIL"), (3, "PASS"), (4, "FAIL")]


def test_a_killed_ledger_process_is_replaced_by_one_that_closes_what_it_left(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        ledger.part(Outcome.PASS)
        wait_until(lambda: ledger.committed(1), 10, "not committed")
        ledger.end(signal.SIGKILL)
        ledger.part(Outcome.FAIL)
        overdue = ledger.part(Outcome.PASS, deadline_s=0.001)
        ledger.start()
        wait_until(lambda: ledger.committed(overdue), 10, "not closed")
        assert ledger.end(signal.SIGTERM) == 0
        # Only what the broker had not acknowledged before the kill may have come twice.
        assert {v[:2] for v in verdicts(subscriber)} == {(1, "PASS"), (2, "FAIL"), (3, "INVALID")}
        statuses = [m for m in subscriber.received() if m.topic.endswith("/status")]
    last = json.loads(statuses[-1].payload)
    assert last["state"] == "offline"
    assert break_seal(ledger.settings.ledger_path)
    assert rows(ledger.settings, "SELECT closed_sequence FROM streams") == [(3,)]
    assert rows(ledger.settings, "SELECT count(*) FROM outbox WHERE published_at IS NULL") == [(0,)]
    assert "Traceback" not in ledger.log.read_text()


def statuses(subscriber: Subscriber) -> list[StationStatus]:
    """Return what the station has said of itself."""
    messages = [m for m in subscriber.received() if m.topic.endswith("/status")]
    return [StationStatus.model_validate_json(message.payload) for message in messages]


def test_a_broker_that_takes_one_message_at_a_time_gets_all_of_them_and_the_status_between(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(running_mosquitto(tmp_path, "max_inflight_messages 1"))
        subscriber = stack.enter_context(closing(Subscriber(broker.port, tmp_path)))
        ledger = stack.enter_context(fed_ledger(tmp_path, broker.port))
        for _ in range(400):
            ledger.part(Outcome.PASS)
        ledger.start()
        wait_until(lambda: len(verdicts(subscriber)) >= 400, 60, "not all arrive")
        assert [v[0] for v in verdicts(subscriber)] == list(range(1, 401))
        assert any(status.undelivered for status in statuses(subscriber))
        assert "broker not connected" not in ledger.log.read_text()


def test_of_a_killed_ledger_process_the_broker_says_that_the_station_is_offline(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        wait_until(lambda: bool(statuses(subscriber)), 10, "no status")
        ledger.end(signal.SIGKILL)
        wait_until(lambda: statuses(subscriber)[-1].state == "offline", 10, "no will")
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        wait_until(lambda: bool(statuses(subscriber)), 10, "not retained")
        assert [status.state for status in statuses(subscriber)] == ["offline"]


def test_verdicts_that_waited_for_the_ledger_are_marked_as_historical(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        ledger.part(Outcome.PASS)
        wait_until(lambda: len(verdicts(subscriber)) == 1, 10, "no first verdict")
        with closing(sqlite3.connect(ledger.settings.ledger_path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN EXCLUSIVE")
            ledger.part(Outcome.PASS)
            wait_until(lambda: len(verdicts(subscriber)) == 2, 10, "no marked verdict")
            time.sleep(HISTORICAL_AFTER_S)
        wait_until(lambda: len(verdicts(subscriber)) == 3, 10, "not committed")
        messages = [m for m in subscriber.received() if m.topic.endswith("/verdict")]
    marks = [json.loads(message.payload)["historical"] for message in messages]
    assert marks == [False, False, True]


def test_a_journal_that_cannot_be_opened_ends_the_ledger_process_with_one_line(
    ledger: Ledger,
) -> None:
    ledger.journal.path.write_bytes(b"no journal")
    ledger.start()
    assert ledger.process is not None
    assert ledger.process.wait(20) == 1
    (line,) = ledger.log.read_text().splitlines()
    assert str(ledger.journal.path) in json.loads(line)["problem"]


def test_a_part_that_comes_while_others_are_decided_is_not_judged_by_an_older_clock(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = LedgerProcess(ledger.settings, RuntimeFiles(ledger.settings.runtime_dir))
    (stream,) = process._streams.values()
    refresh = stream.refresh

    def comes_just_before(*_: object) -> None:
        ledger.part(Outcome.PASS)
        refresh()

    monkeypatch.setattr(stream, "refresh", comes_just_before)
    ((_, decided, _),) = process._due()
    assert decided.message.latency_ms >= 0
    process._close()


def test_a_change_of_settings_that_a_dead_ledger_process_did_not_note_is_noted_by_the_next(
    ledger: Ledger,
) -> None:
    changed = ledger.settings.model_copy(update={"log_level": "debug"})
    files = RuntimeFiles(ledger.settings.runtime_dir)
    files.settings.write_text(changed.model_dump_json())
    write_note(files.supervisor, SupervisorNote(changed_by="SIGHUP from m.weber"))
    ledger.start()
    query = "SELECT who FROM settings_changes ORDER BY id"
    wait_until(lambda: len(rows(ledger.settings, query)) == 2, 20, "the change is not noted")
    assert rows(ledger.settings, query) == [("start",), ("SIGHUP from m.weber",)]


def test_a_verdict_names_the_settings_that_it_was_judged_by_not_those_since(
    ledger: Ledger,
) -> None:
    ledger.start()
    ledger.part(Outcome.PASS)
    wait_until(lambda: ledger.committed(1), 20, "not committed")
    query = "SELECT settings_digest, threshold FROM verdicts"
    assert rows(ledger.settings, query) == [(SETTINGS_DIGEST, 0.5)]
    assert ledger.settings.digest != SETTINGS_DIGEST


def test_a_ledger_process_that_is_asked_to_stop_before_it_listens_closes_what_is_pending(
    ledger: Ledger,
) -> None:
    ledger.part(Outcome.PASS)
    process = ledger.start_as_the_supervisor_does()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert ledger.committed(1)


def test_a_ledger_process_that_cannot_write_to_its_end_says_so_and_ends_with_an_error(
    ledger: Ledger,
) -> None:
    ledger.start()
    ledger.part(Outcome.PASS, deadline_s=1.0)
    wait_until(lambda: ledger.committed(1), 10, "not committed")
    with closing(sqlite3.connect(ledger.settings.ledger_path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        ledger.part(Outcome.PASS, deadline_s=1.0)
        assert ledger.end(signal.SIGTERM) == 1
    assert not ledger.committed(2)
    assert "triggers left for the next start" in ledger.log.read_text()
