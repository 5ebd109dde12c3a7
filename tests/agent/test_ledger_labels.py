"""Labels are added, never changed; the newest counts, and who disagrees is listed."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from ssn_agent.frames.layout import Outcome
from ssn_agent.ledger import query
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.deletion import Deletion
from ssn_agent.ledger.label_query import LabelFilter, disagreements, labels
from ssn_agent.ledger.label_writer import LabelWriter
from ssn_agent.ledger.query import EVERYTHING
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from ssn_contract.messages import LabelCounts
from support.labelled import label_writer, said, write_verdicts
from support.ledgers import open_writer, rows, settings_in
from support.records import EPOCH

PASS, FAIL, INVALID = Outcome.PASS, Outcome.FAIL, Outcome.INVALID
ALL = LabelFilter()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_verdicts(made, tmp_path / "left.journal", [PASS, FAIL, INVALID, PASS])
    return made


@pytest.fixture
def writer(settings: Settings) -> LabelWriter:
    return label_writer(settings)


@pytest.fixture
def reader(settings: Settings) -> Engine:
    return open_database(settings.ledger_path, read_only=True)


def standing(reader: Engine, sequence: int) -> str | None:
    found = query.entry(reader, "site/line/station", "left", EPOCH, sequence)
    assert found is not None
    return found.label


def test_a_label_is_kept_with_who_when_why_and_the_way_that_it_came(
    writer: LabelWriter, reader: Engine
) -> None:
    before = datetime.now(timezone.utc)
    (answer,) = writer.write(
        [said(2, "bad", "m.weber", "http", id="t-1", defect_type="crack", reason="a dark line")]
    )
    assert answer.status == "kept"
    (entry,) = labels(reader, ALL, 10)
    assert (entry.id, entry.labelled_at) == (answer.id, answer.labelled_at)
    assert before <= entry.labelled_at <= datetime.now(timezone.utc)
    assert (entry.camera, entry.epoch, entry.sequence, entry.part_id) == (
        *("left", EPOCH, 2),
        "part-2",
    )
    assert (entry.verdict.value, entry.score, entry.label) == ("FAIL", 0.875, "bad")
    assert (entry.labeller, entry.reason, entry.source) == ("m.weber", "a dark line", "http")
    assert entry.defect_type == "crack"


def test_a_later_label_counts_and_the_earlier_one_stays(
    settings: Settings, writer: LabelWriter, reader: Engine
) -> None:
    for word, by in (("bad", "m.weber"), ("good", "k.abt"), ("bad", "m.weber")):
        assert standing(reader, 1) in {None, "good", "bad"}
        writer.write([said(1, word, by, reason=f"by {by} after {standing(reader, 1)}")])
        assert standing(reader, 1) == word
    kept = rows(settings, "SELECT label, labeller FROM labels ORDER BY id")
    assert kept == [("bad", "m.weber"), ("good", "k.abt"), ("bad", "m.weber")]
    newest = query.page(reader, EVERYTHING, None, 10).entries
    assert [(e.sequence, e.label) for e in newest] == [(4, None), (3, None), (2, None), (1, "bad")]


def test_a_message_that_comes_again_is_the_same_label(
    settings: Settings, writer: LabelWriter
) -> None:
    first, changed = said(1, "bad", id="a"), said(1, "good", id="b")
    kept = writer.write([first, changed])
    again = writer.write([first, changed, first])
    assert [a.status for a in again] == ["repeated"] * 3
    assert [a.id for a in again] == [kept[0].id, kept[1].id, kept[0].id]
    assert len(rows(settings, "SELECT * FROM labels")) == 2


def test_an_id_is_its_labellers_own_and_has_one_content(
    settings: Settings, writer: LabelWriter
) -> None:
    writer.write([said(1, "bad", id="1")])
    other_word, other_part, other_person = writer.write(
        [said(1, "good", id="1"), said(2, "bad", id="1"), said(2, "bad", "k.abt", id="1")]
    )
    assert (other_word.status, other_part.status, other_person.status) == (
        *("conflict", "conflict"),
        "kept",
    )
    assert "give each label its own" in str(other_word.problem)
    assert len(rows(settings, "SELECT * FROM labels")) == 2


def test_without_an_id_what_a_person_says_again_is_the_same_label_and_another_reason_is_not(
    writer: LabelWriter,
) -> None:
    answers = writer.write(
        [
            said(1, "bad"),
            said(1, "bad"),
            said(1, "bad", "k.abt"),
            said(1, "bad", reason="looked again"),
            said(1, "bad"),
        ]
    )
    kinds = [answer.status for answer in answers]
    assert kinds == ["kept", "repeated", "kept", "kept", "kept"]


@pytest.mark.parametrize(
    ("sequence", "change", "problem"),
    [
        (5, {}, "number 5 of left has no verdict yet"),
        (1, {"camera": "right"}, "of camera right is not in this ledger"),
        (1, {"epoch": uuid4()}, "is not in this ledger"),
    ],
)
def test_what_is_no_verdict_here_is_not_labelled_and_the_answer_says_why(
    writer: LabelWriter, sequence: int, change: dict[str, Any], problem: str
) -> None:
    unknown, known = writer.write([said(sequence, "bad", **change), said(1, "bad")])
    assert unknown.status == "unknown"
    assert problem in str(unknown.problem)
    assert known.status == "kept"


def test_a_verdict_of_the_station_that_this_one_was_before_is_not_labelled_here(
    settings: Settings,
) -> None:
    renamed = LabelWriter(open_database(settings.ledger_path), "site/line/new")
    (answer,) = renamed.write([said(1, "bad")])
    assert answer.status == "unknown"
    assert "is of station site/line/station" in str(answer.problem)


def test_people_who_contradict_each_other_or_the_verdict_are_listed(
    writer: LabelWriter, reader: Engine
) -> None:
    writer.write(
        [
            said(1, "bad", "k.abt"),  # against a PASS
            said(2, "bad", "k.abt"),  # as the agent
            said(2, "good", "m.weber"),  # against him, and now against the FAIL
            said(3, "good", "m.weber"),  # an INVALID says nothing of the part
            said(4, "good", "m.weber"),
            said(4, "bad", "k.abt"),
            said(4, "good", "k.abt"),  # changed his mind: they agree
        ]
    )
    found = disagreements(reader, ALL, 10)
    assert [(d.labels[0].sequence, d.between) for d in found] == [
        (2, ["people", "verdict"]),
        (1, ["verdict"]),
    ]
    assert [(e.labeller, e.label) for e in found[0].labels] == [
        ("m.weber", "good"),
        ("k.abt", "bad"),
    ]
    writer.write([said(2, "bad", "s.lang")])  # the newest agrees with the agent, not with m.weber
    (still, _) = disagreements(reader, ALL, 10)
    assert (still.between, len(still.labels)) == (["people"], 3)


def test_labels_and_disagreements_are_found_by_camera_time_and_page(
    writer: LabelWriter, reader: Engine
) -> None:
    writer.write([said(1, "bad"), said(2, "good"), said(4, "bad")])
    first = labels(reader, ALL, 2)
    assert [e.sequence for e in first] == [4, 2]
    rest = LabelFilter(before=first[-1].id)
    assert [e.sequence for e in labels(reader, rest, 2)] == [1]
    assert [d.labels[0].sequence for d in disagreements(reader, rest, 2)] == [1]
    later = datetime.now(timezone.utc) + timedelta(seconds=1)
    for wanted in (LabelFilter(camera="right"), LabelFilter(since=later)):
        assert labels(reader, wanted, 10) == []
        assert disagreements(reader, wanted, 10) == []
    assert len(labels(reader, LabelFilter("left", later - timedelta(minutes=1)), 10)) == 3


def test_the_counts_are_those_of_the_ledger_after_every_label_and_after_a_restart(
    settings: Settings, writer: LabelWriter
) -> None:
    assert writer.counts() == LabelCounts(good=0, bad=0, disagreements=0)
    for batch in (
        [said(1, "bad"), said(2, "bad")],
        [said(1, "good"), said(2, "bad")],
        [said(1, "bad", "k.abt"), said(3, "good"), said(9, "bad")],
    ):
        writer.write(batch)
        assert writer.counts() == label_writer(settings).counts()
    assert writer.counts() == LabelCounts(good=1, bad=2, disagreements=1)


def test_what_people_have_labelled_outlives_the_rest_and_goes_last_where_there_is_no_room(
    settings: Settings, writer: LabelWriter
) -> None:
    writer.write([said(1, "bad"), said(2, "bad")])
    messages = open_writer(settings)
    sent = {m.id: datetime.now(timezone.utc) for m in messages.undelivered(0, 100)}
    messages.write([], Delivery(sent))
    deletion = Deletion(open_database(settings.ledger_path, synced=False))
    assert len(deletion.delete_before(datetime.now(timezone.utc))) == 1
    left = "SELECT sequence FROM triggers ORDER BY sequence"
    assert rows(settings, left) == [(1,), (2,), (4,)]  # the newest always stays
    assert not deletion.delete_before(datetime.now(timezone.utc))
    assert len(deletion.delete_oldest()) == 2
    assert rows(settings, left) == [(4,)]
    assert rows(settings, "SELECT * FROM labels") == []
    assert rows(settings, "PRAGMA foreign_key_check") == []
    (gone,) = writer.write([said(1, "bad")])
    assert (gone.status, gone.problem) == (
        "unknown",
        "number 1 of left is no longer in the ledger",
    )
