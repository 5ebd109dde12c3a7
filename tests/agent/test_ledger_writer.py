"""What a committed verdict leaves in the ledger: one trigger, one verdict, defects, messages."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest

from ssn_agent.errors import LedgerError
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Captured, Decision, Defect, Outcome, Result
from ssn_agent.ledger.verdicts import Decided, utc
from ssn_agent.ledger.writer import Counts, LedgerWriter
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from ssn_contract.messages import ImageRef, InvalidReason, Verdict
from support.ledgers import decided, open_writer, rows, settings_in
from support.records import DIGEST, EPOCH, FRAME, START_UTC_NS, judged, new_journal, trigger


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def writer(settings: Settings) -> LedgerWriter:
    made = open_writer(settings)
    made.open_stream("left", EPOCH)
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(new_journal(tmp_path / "left.journal", capacity=64)) as made:
        yield made


def closed(
    settings: Settings, journal: Journal, result: Result | None, captured: Captured = FRAME
) -> Decided:
    """Take a trigger through the journal to its decision, 12.5 ms after it came."""
    sequence = journal.accept(trigger())
    journal.capture(sequence, captured)
    if result is not None:
        journal.finish(sequence, result)
    entry = journal.read(sequence)
    assert entry is not None
    outcome = Outcome.INVALID if result is None else result.outcome
    reason = captured.reason if result is None else result.reason
    decision = Decision(outcome, reason, 12_500_000, START_UTC_NS + 12_500_000)
    return decided(settings, journal, entry, decision)


def test_a_fail_leaves_its_trigger_verdict_defects_and_two_messages(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    item = closed(settings, journal, judged(Outcome.FAIL, heatmap=True))
    writer.write([item], Delivery())
    assert rows(settings, "SELECT sequence, part_id, frame_id, width, height FROM triggers") == [
        (1, "part-1", 9, 64, 48)
    ]
    verdict = (
        "SELECT verdict, reason, score, threshold, bundle_digest, latency_ms, deadline_ms "
        "FROM verdicts"
    )
    assert rows(settings, verdict) == [("FAIL", None, 0.875, 0.5, DIGEST, 12.5, 2000.0)]
    assert rows(settings, "SELECT x, y, width, height, area_px, peak_x, peak_y FROM defects") == [
        (10, 20, 30, 40, 900, 22, 33)
    ]
    (first, second) = rows(settings, "SELECT topic, payload, file FROM outbox ORDER BY id")
    assert first[0] == "ssn/v1/site/line/station/left/verdict"
    assert Verdict.model_validate_json(first[1]) == item.message
    assert second[0] == "ssn/v1/site/line/station/left/heatmap/1"
    assert second[1] is None
    assert second[2] == str(settings.heatmap_dir / "left" / str(EPOCH) / "000000" / "1.png")


@pytest.mark.parametrize("reason", [None, InvalidReason.NO_MODEL, InvalidReason.LATE])
def test_a_picture_that_is_kept_is_named_by_its_verdict_and_its_row_whatever_the_verdict(
    settings: Settings, writer: LedgerWriter, journal: Journal, reason: InvalidReason | None
) -> None:
    result = judged(Outcome.FAIL if reason is None else Outcome.INVALID, image=True)
    item = closed(settings, journal, Result(**{**vars(result), "reason": reason}))
    writer.write([item], Delivery())
    file = str(settings.image_dir / "left" / str(EPOCH) / "000000" / "1.png")
    x, y, width, height = result.region
    assert item.message.image == ImageRef(file=file, x=x, y=y, width=width, height=height)
    assert rows(settings, "SELECT image_file FROM verdicts") == [(file,)]
    assert rows(settings, "SELECT count(*) FROM outbox") == [(1,)]  # no message of its own


def test_a_fail_without_a_region_owns_the_row_of_its_peak(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    peak = Defect(0, 0, 0, 0, 0, 7, 8, 0.4)
    result = Result(**{**vars(judged(Outcome.FAIL)), "defects": (peak,)})
    writer.write([closed(settings, journal, result)], Delivery())
    assert rows(settings, "SELECT x, y, width, height, area_px, peak_x, peak_y FROM defects") == [
        (None, None, None, None, None, 7, 8)
    ]


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_writing_a_verdict_again_changes_nothing(
    settings: Settings, writer: LedgerWriter, journal: Journal, outcome: Outcome
) -> None:
    item = closed(settings, journal, judged(outcome, heatmap=True))
    writer.write([item], Delivery())
    tables = ("triggers", "verdicts", "defects", "outbox")
    before = {table: rows(settings, f"SELECT * FROM {table}") for table in tables}  # noqa: S608 -- our own names
    other = closed(settings, journal, judged(Outcome.PASS))
    message = other.message.model_copy(update={"sequence": 1})
    entry = item.entry
    writer.write([item, Decided(item.header, entry, message)], Delivery())
    after = {table: rows(settings, f"SELECT * FROM {table}") for table in tables}  # noqa: S608 -- our own names
    assert after == before


def test_a_part_without_a_frame_keeps_its_trigger_and_its_reason(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    item = closed(settings, journal, None, Captured(InvalidReason.UNREADABLE))
    writer.write([item], Delivery())
    assert rows(settings, "SELECT verdict, reason, score, engine FROM verdicts") == [
        ("INVALID", "unreadable", None, None)
    ]
    assert rows(settings, "SELECT width, height, frame_id FROM triggers") == [(None, None, None)]
    assert rows(settings, "SELECT count(*) FROM defects") == [(0,)]
    assert rows(settings, "SELECT count(*) FROM outbox") == [(1,)]


def test_one_verdict_that_cannot_be_written_takes_none_of_its_turn_with_it_halfway(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    good = closed(settings, journal, judged(Outcome.PASS))
    bad = closed(settings, journal, judged(Outcome.PASS))
    broken = bad.message.model_copy(update={"settings_digest": None})
    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        writer.write([good, Decided(bad.header, bad.entry, broken)], Delivery())
    assert rows(settings, "SELECT count(*) FROM triggers") == [(0,)]


def test_messages_are_given_oldest_first_in_pages_until_they_are_delivered_or_given_up(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    writer.write([closed(settings, journal, judged(Outcome.PASS)) for _ in range(5)], Delivery())
    assert [m.id for m in writer.undelivered(0, 2)] == [1, 2]
    assert [m.id for m in writer.undelivered(2, 9)] == [3, 4, 5]
    at = datetime.now(timezone.utc)
    writer.write([], Delivery(published={1: at, 3: at}, undeliverable={2: "too large"}))
    assert [m.id for m in writer.undelivered(0, 9)] == [4, 5]
    assert writer.count_undelivered() == 2
    assert rows(settings, "SELECT problem FROM outbox WHERE id = 2") == [("too large",)]


def test_undelivered_messages_are_counted_once_and_kept_count_of(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    assert writer.count_undelivered() == 0
    kept = [closed(settings, journal, judged(Outcome.FAIL, heatmap=True)) for _ in range(3)]
    writer.write(kept, Delivery())
    writer.write(kept, Delivery())  # again, as after a death before it was noted in the journal
    assert writer.count_undelivered() == 6
    at = datetime.now(timezone.utc)
    bad = closed(settings, journal, judged(Outcome.PASS))
    broken = bad.message.model_copy(update={"settings_digest": None})
    with pytest.raises(LedgerError):
        writer.write([Decided(bad.header, bad.entry, broken)], Delivery(published={1: at}))
    assert writer.count_undelivered() == 6
    for _ in range(2):  # a message that was sent twice is acknowledged twice
        writer.write([], Delivery(published={1: at}, undeliverable={2: "too large"}))
    assert writer.count_undelivered() == open_writer(settings).count_undelivered() == 4


def test_of_messages_the_verdicts_alone_tell_when_their_triggers_were(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    items = [closed(settings, journal, judged(Outcome.FAIL, heatmap=True)) for _ in range(2)]
    writer.write(items, Delivery())
    first, second = (item.message.triggered_at for item in items)
    assert writer.triggered_at([1, 2, 3, 99]) == {1: first, 3: second}


def test_counts_are_those_of_one_camera_in_one_epoch_at_one_station(
    tmp_path: Path, settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    results = [judged(Outcome.PASS), judged(Outcome.FAIL), judged(Outcome.PASS)]
    writer.write([closed(settings, journal, result) for result in results], Delivery())
    lost = Captured(InvalidReason.LOST)
    writer.write([closed(settings, journal, None, lost) for _ in range(2)], Delivery())
    counts = writer.counts("left", EPOCH)
    assert (counts.passed, counts.failed, dict(counts.invalid)) == (2, 1, {"lost": 2})
    assert counts.closed == 5
    assert writer.counts("right", EPOCH) == Counts()
    assert writer.counts("left", UUID(int=5)) == Counts()
    moved = settings_in(tmp_path, station={"station": "another"})
    assert open_writer(moved).counts("left", EPOCH) == Counts()
    assert writer.committed("left", EPOCH, 2) == {2, 3, 4, 5}
    assert writer.committed("right", EPOCH, 1) == set()


def test_counts_outlive_the_rows_that_were_counted(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    late = Captured(InvalidReason.UNREADABLE)
    kept = [closed(settings, journal, judged(Outcome.PASS)), closed(settings, journal, None, late)]
    writer.write(kept, Delivery())
    writer.write(kept, Delivery())  # again, as after a death before it was noted in the journal
    with closing(sqlite3.connect(settings.ledger_path)) as connection, connection:
        for table in ("outbox", "verdicts", "triggers"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own names
    counts = open_writer(settings).counts("left", EPOCH)
    assert (counts.passed, counts.failed, dict(counts.invalid)) == (1, 0, {"unreadable": 1})


def test_the_newest_stream_tells_whether_it_was_closed_well(writer: LedgerWriter) -> None:
    assert writer.last_stream("right") is None
    assert writer.last_stream("left") == (EPOCH, None)
    writer.close_stream("left", EPOCH, 77)
    assert writer.last_stream("left") == (EPOCH, 77)
    writer.open_stream("left", EPOCH)
    assert writer.last_stream("left") == (EPOCH, None)
    writer.open_stream("left", UUID(int=9))
    assert writer.last_stream("left") == (UUID(int=9), None)


def test_every_change_of_settings_is_noted_once_with_old_and_new(
    settings: Settings, writer: LedgerWriter
) -> None:
    writer.note_settings("d1", '{"a": 1}', "start")
    writer.note_settings("d1", '{"a": 1}', "start")
    writer.note_settings("d2", '{"a": 2}', "start")
    writer.note_settings("d2", '{"a": 2, "broker": 3}', "start")  # bears on no verdict
    query = "SELECT who, old_digest, new_digest, new FROM settings_changes ORDER BY id"
    assert rows(settings, query) == [
        ("start", None, "d1", '{"a": 1}'),
        ("start", "d1", "d2", '{"a": 2}'),
        ("start", "d2", "d2", '{"a": 2, "broker": 3}'),
    ]


def test_times_come_back_aware_and_exact_to_the_microsecond(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    item = closed(settings, journal, judged(Outcome.PASS))
    writer.write([item], Delivery())
    assert item.message.decided_at - item.message.triggered_at == timedelta(microseconds=12_500)
    assert item.message.triggered_at == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert utc(1_767_225_600_123_456_789).microsecond == 123_456
    assert utc(1_767_225_600_123_456_789).utcoffset() == timedelta(0)


def test_a_judgement_of_nobody_is_never_published_with_a_score(
    settings: Settings, journal: Journal
) -> None:
    sequence = journal.accept(trigger())
    journal.capture(sequence, FRAME)
    journal.finish(sequence, judged(Outcome.FAIL, heatmap=True))
    entry = journal.read(sequence)
    assert entry is not None
    late = Decision(Outcome.INVALID, InvalidReason.LATE, 3, START_UTC_NS)
    message = json.loads(decided(settings, journal, entry, late).message.model_dump_json())
    assert message["score"] is None
    assert message["defects"] == []
    assert message["heatmap"] is None
    assert message["bundle"] is None
