"""The ledger's disk full, read-only or locked: the line gets its verdicts, the ledger later."""

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ssn_agent.errors import JournalError, LedgerError
from ssn_agent.frames.layout import Captured, Outcome
from ssn_agent.ledger.prepare import prepare
from ssn_agent.ledger.seal import seal
from ssn_contract.messages import InvalidReason
from support.disks import SmallDisk, small_disk
from support.ledger_process import Ledger, fed_ledger, verdicts
from support.ledgers import rows
from support.mosquitto import Mosquitto, Subscriber
from support.records import trigger
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub", "mount")
STORED = "SELECT sequence, verdict FROM verdicts JOIN triggers ON id = trigger_id ORDER BY 1"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "data") as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path, mosquitto: Mosquitto, disk: SmallDisk) -> Iterator[Ledger]:
    assert disk.path == tmp_path / "data"
    with fed_ledger(tmp_path, mosquitto.port) as made:
        yield made


@contextmanager
def full(ledger: Ledger, disk: SmallDisk) -> Iterator[None]:
    del ledger
    disk.fill()
    yield
    disk.free()


@contextmanager
def read_only(ledger: Ledger, disk: SmallDisk) -> Iterator[None]:
    assert ledger.process is None  # it would have files open for writing
    disk.remount("ro")
    yield
    disk.remount("rw")


@contextmanager
def locked(ledger: Ledger, disk: SmallDisk) -> Iterator[None]:
    del disk
    with closing(sqlite3.connect(ledger.settings.ledger_path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        yield
        blocker.execute("ROLLBACK")


Trouble = Callable[[Ledger, SmallDisk], AbstractContextManager[None]]


@pytest.mark.parametrize("trouble", [full, read_only, locked])
def test_a_ledger_process_that_starts_on_a_disk_it_cannot_use_sends_verdicts_and_writes_them_later(
    ledger: Ledger, disk: SmallDisk, mosquitto: Mosquitto, tmp_path: Path, trouble: Trouble
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        with trouble(ledger, disk):
            ledger.start()
            ledger.part(Outcome.FAIL)
            wait_until(lambda: (1, "FAIL", False) in verdicts(subscriber), 20, "no verdict")
            wait_until(lambda: bool(said(subscriber)), 20, "no status")
            status = said(subscriber)[-1]
            assert status["ledger"] == "faulty"
            assert status["cameras"] == []  # what was counted before is in the database
            assert not ledger.committed(1)
        wait_until(lambda: (1, "FAIL", True) in verdicts(subscriber), 20, "not committed")
        assert ledger.end(signal.SIGTERM) == 0
    assert rows(ledger.settings, STORED) == [(1, "FAIL")]
    assert "Traceback" not in ledger.log.read_text()


def test_a_ledger_that_comes_back_to_a_quiet_line_is_well_again_without_a_part(
    ledger: Ledger, disk: SmallDisk, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    def ledger_is(state: str) -> bool:
        return bool(said(subscriber)) and said(subscriber)[-1]["ledger"] == state

    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        with locked(ledger, disk):
            ledger.start()
            wait_until(lambda: ledger_is("faulty"), 20, "nobody says that the ledger is away")
        wait_until(lambda: ledger_is("ok"), 20, "nobody says that the ledger is back")


def test_a_ledger_that_a_full_disk_kept_from_being_made_is_made_when_there_is_room(
    ledger: Ledger, disk: SmallDisk, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    for path in ledger.settings.data_dir.glob("ledger.sqlite*"):
        path.unlink()
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        with full(ledger, disk):
            prepare(ledger.settings)
            ledger.start()
            ledger.part(Outcome.PASS)
            wait_until(lambda: (1, "PASS", False) in verdicts(subscriber), 20, "no verdict")
        wait_until(lambda: (1, "PASS", True) in verdicts(subscriber), 20, "not committed")
        assert ledger.end(signal.SIGTERM) == 0
    assert rows(ledger.settings, STORED) == [(1, "PASS")]


def test_on_a_disk_that_becomes_full_verdicts_go_on_and_are_all_written_when_it_has_room(
    ledger: Ledger, disk: SmallDisk, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        ledger.part(Outcome.PASS)
        wait_until(lambda: (1, "PASS", True) in verdicts(subscriber), 20, "no first verdict")
        disk.fill()
        while not any(not durable for _, _, durable in verdicts(subscriber)):
            last = ledger.part(Outcome.PASS)
            wait_until(lambda n=last: _has(subscriber, n), 20, "no verdict")  # type: ignore[misc]  # a default binds the loop's value
        assert not ledger.committed(last)
        # Or its file system could not be unmounted, and mounted anew, as one that met an error is.
        wait_until(lambda: not held(ledger, disk), 20, "the file system is never let go of")
        disk.free()
        wait_until(lambda: ledger.committed(last), 20, "not committed")
        assert ledger.end(signal.SIGTERM) == 0
    assert rows(ledger.settings, STORED) == [(n, "PASS") for n in range(1, last + 1)]
    assert rows(ledger.settings, "PRAGMA integrity_check") == [("ok",)]


def test_past_the_journal_s_bound_parts_are_invalid_told_to_the_line_and_counted(
    ledger: Ledger, disk: SmallDisk, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    bound, beyond = ledger.journal.header.capacity, 300  # more than can be on their way at once
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        with locked(ledger, disk):
            ledger.start()
            for _ in range(bound):
                ledger.part(Outcome.PASS)
            for number in range(bound + 1, bound + beyond + 1):
                assert not ledger.journal.has_room()
                wait_until(lambda: _spill(ledger), 30, "spilled parts are not counted")
                if number % 100 == 0:  # a burst; what comes still faster is counted untold
                    expected = (number, "INVALID", False)
                    wait_until(lambda e=expected: e in verdicts(subscriber), 60, "not told")  # type: ignore[misc]  # a default binds the loop's value
            last = ledger.journal.head
        wait_until(lambda: ledger.committed(bound), 60, "what the journal kept is not written")
        wait_until(lambda: bool(said(subscriber)[-1]["cameras"]), 20, "no status with counts")
        assert ledger.end(signal.SIGTERM) == 0
        told = {n: verdict for n, verdict, _ in verdicts(subscriber)}
        statuses = said(subscriber)
    assert told.keys() == set(range(1, bound + beyond + 1))
    assert {told[n] for n in range(bound + 1, last + 1)} == {"INVALID"}
    assert rows(ledger.settings, "SELECT count(*), max(sequence) FROM triggers") == [(bound, bound)]
    counts = "SELECT verdict, reason, count FROM verdict_counts ORDER BY 1"
    expected_counts = [("INVALID", "ledger", beyond), ("PASS", "", bound)]
    assert rows(ledger.settings, counts) == expected_counts
    cameras = [camera for status in statuses for camera in status["cameras"]]
    assert cameras
    for camera in cameras:
        invalid = sum(camera["invalid"].values())
        closed = camera["passed"] + camera["failed"] + invalid
        assert camera["triggers"] == closed + camera["pending"]
    prepare(ledger.settings)  # numbers are proven: what was counted lacks nowhere
    assert len(rows(ledger.settings, "SELECT id FROM streams")) == 1


@pytest.mark.parametrize("trouble", [full, read_only, locked])
def test_an_agent_that_starts_on_such_a_disk_goes_on_with_this_boot_s_journals_and_no_others(
    ledger: Ledger, disk: SmallDisk, trouble: Trouble
) -> None:
    ledger.part(Outcome.PASS)
    before = ledger.journal.path.read_bytes()
    with trouble(ledger, disk):
        prepare(ledger.settings)
    assert ledger.journal.path.read_bytes() == before
    ledger.journal.path.unlink()
    with trouble(ledger, disk), pytest.raises(LedgerError, match="disk"):
        prepare(ledger.settings)


def test_an_agent_does_not_start_where_a_seal_would_go_on_vouching_for_the_last_number(
    ledger: Ledger, disk: SmallDisk
) -> None:
    seal(ledger.settings.ledger_path)
    with read_only(ledger, disk), pytest.raises(OSError, match="Read-only"):
        prepare(ledger.settings)
    prepare(ledger.settings)


def held(ledger: Ledger, disk: SmallDisk) -> list[Path]:
    """Return the files of the disk that the process has open."""
    assert ledger.process is not None
    found = []
    for fd in Path(f"/proc/{ledger.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(fd.readlink())
    return [path for path in found if disk.path in path.parents]


def said(subscriber: Subscriber) -> list[dict[str, Any]]:
    """Return each status."""
    found = [m.payload for m in subscriber.received() if m.topic.endswith("/status")]
    return [json.loads(payload) for payload in found]


def _has(subscriber: Subscriber, sequence: int) -> bool:
    return any(number == sequence for number, _, _ in verdicts(subscriber))


def _spill(ledger: Ledger) -> bool:
    """Let a part come for which the journal has no room, as capture does."""
    try:
        sequence = ledger.journal.spill(trigger())
    except JournalError:  # the ledger process is not that quick
        return False
    ledger.journal.capture(sequence, Captured(InvalidReason.LEDGER))
    return True
