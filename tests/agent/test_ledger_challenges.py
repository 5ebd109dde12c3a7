"""What a challenge found becomes a row each, and is told to the broker and on `status`."""

import json
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ssn_agent.frames.layout import Accepted, Decision, Outcome
from ssn_agent.inference import challenge as rules
from ssn_agent.inference.challenge_state import (
    Event,
    Item,
    Standing,
    challenge_file,
    write_standing,
)
from ssn_agent.ledger import challenges
from ssn_agent.ledger.challenges import Challenges, keep, report
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.status import station_status
from ssn_agent.ledger.stream import follow
from ssn_agent.ledger.verdicts import VerdictWriter
from ssn_agent.settings import Settings
from ssn_contract.messages import InvalidReason, VerdictKind
from support.challenges import PARTS
from support.ledger_process import fed_ledger
from support.ledgers import open_writer, rows, settings_in
from support.mosquitto import Mosquitto, Subscriber
from support.records import FRAME, judged, new_journal, trigger
from support.waiting import wait_until

NOW = datetime(2026, 1, 1, 6, 0, tzinfo=timezone.utc)
GOOD = Item(kind="part", expected="good", name="MASTER-GOOD")
BAD = Item(kind="part", expected="bad", name="MASTER-BAD")
FAILED = (
    "failed, parts are INVALID (ssn-agent challenge show): wrong MASTER-BAD; to come MASTER-GOOD"
)
ROWS = "SELECT what, name, expected, part_id, verdict, is_right, who, why FROM challenges"


def challenged(folder: Path, **changes: Any) -> Settings:
    source = {"kind": "folder", "path": str(folder / "images")}
    return settings_in(folder, cameras={"left": {"source": source, "challenge": PARTS}}, **changes)


def wrong(standing: Standing, number: int = 1) -> Standing:
    event = Event(
        id=UUID(int=number),
        at=NOW,
        what="judged",
        item=BAD,
        part_id="MASTER-BAD",
        verdict=VerdictKind.PASS,
        score=0.125,
        bundle_digest="ab" * 32,
        is_right=False,
    )
    return rules.noted(standing, event)


class Heard:
    """Takes what is said, while there is room."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.has_room = True

    def __call__(self, topic: str, text: str, *, retain: bool) -> bool:
        assert topic.endswith("/left/challenge")
        assert retain
        if self.has_room:
            self.messages.append(json.loads(text))
        return self.has_room


def test_every_event_becomes_one_row_however_often_it_is_told(tmp_path: Path) -> None:
    settings = challenged(tmp_path)
    open_writer(settings).close()
    engine = open_database(settings.ledger_path)
    standing = wrong(rules.begun((GOOD, BAD), NOW))
    for _ in range(2):
        keep(engine, "left", standing.events)
    standing = rules.cleared(standing, NOW, "m.weber", "wrong master")
    keep(engine, "left", standing.events)
    assert rows(settings, ROWS) == [
        ("due", None, None, None, None, None, None, rules.FIRST),
        ("judged", "MASTER-BAD", "bad", "MASTER-BAD", "PASS", 0, None, None),
        ("cleared", None, None, None, None, None, "m.weber", "wrong master"),
    ]


def test_a_change_is_kept_and_said_when_ledger_and_broker_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenges, "LOOK_S", 0.0)
    settings = challenged(tmp_path)
    open_writer(settings).close()
    watched, heard = Challenges(settings, open_database(settings.ledger_path)), Heard()
    path = challenge_file(settings.data_dir, "left")
    watched.turn(heard, can_write=True)
    assert heard.messages == []
    standing = rules.begun((GOOD, BAD), NOW)
    write_standing(path, standing)
    heard.has_room = False
    watched.turn(heard, can_write=False)
    assert rows(settings, ROWS) == []
    heard.has_room = True
    watched.turn(heard, can_write=True)
    watched.turn(heard, can_write=True)
    assert [message["state"] for message in heard.messages] == ["due"]
    assert len(rows(settings, ROWS)) == 1
    write_standing(path, wrong(standing))
    watched.turn(heard, can_write=True)
    watched.forget()
    watched.turn(heard, can_write=True)
    assert [message["state"] for message in heard.messages] == ["due", "failed", "failed"]
    assert len(rows(settings, ROWS)) == 2


def test_a_file_that_cannot_be_read_leaves_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenges, "LOOK_S", 0.0)
    settings = challenged(tmp_path)
    open_writer(settings).close()
    watched = Challenges(settings, open_database(settings.ledger_path))
    path = challenge_file(settings.data_dir, "left")
    write_standing(path, wrong(rules.begun((GOOD, BAD), NOW)))
    watched.turn(Heard(), can_write=True)
    path.write_text("{")
    watched.turn(Heard(), can_write=True)
    assert watched.standings["left"].state == "failed"


def test_the_report_has_the_newest_verdict_on_each_item_and_who_cleared_it() -> None:
    standing = wrong(rules.begun((GOOD, BAD), NOW))
    said = report("plant1/line2/box3", "left", standing)
    assert [(i.name, i.passed, i.verdict, i.score) for i in said.items] == [
        ("MASTER-GOOD", None, None, None),
        ("MASTER-BAD", False, VerdictKind.PASS, 0.125),
    ]
    assert said.cleared is None
    cleared = rules.cleared(standing, NOW, "m.weber", "wrong master")
    said = report("plant1/line2/box3", "left", cleared)
    assert (said.state, said.cleared and said.cleared.who) == ("passed", "m.weber")
    again = rules.due(cleared, (GOOD, BAD), NOW, "shift start 14:00")
    assert report("plant1/line2/box3", "left", again).cleared is None


@pytest.mark.parametrize(
    ("standing", "state", "alarm"),
    [
        (None, None, None),
        (
            rules.begun((GOOD, BAD), NOW),
            "due",
            "due (ssn-agent challenge show), still to come: MASTER-GOOD, MASTER-BAD",
        ),
        (
            wrong(rules.begun((GOOD, BAD), NOW)),
            "failed",
            FAILED,
        ),
        (rules.cleared(rules.begun((GOOD, BAD), NOW), NOW, "anna", "why"), "passed", None),
    ],
)
def test_status_has_each_cameras_state_and_an_alarm_while_it_is_not_passed(
    tmp_path: Path, standing: Standing | None, state: str | None, alarm: str | None
) -> None:
    settings = challenged(tmp_path)
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        status = station_status(
            settings,
            {"left": follow(journal, open_writer(settings))},
            ledger_problem=None,
            broker_problem=None,
            undelivered=0,
            refused_triggers=0,
            challenges={} if standing is None else {"left": standing},
        )
    assert status.cameras[0].challenge == state
    assert status.alarms == ([] if alarm is None else [f"left: challenge {alarm}"])


@pytest.mark.parametrize(
    ("part_id", "mark"),
    [("MASTER-GOOD", "good"), ("MASTER-BAD", "bad"), ("P-1", None), (None, None)],
)
def test_a_verdict_on_a_challenge_part_is_marked_as_test_data(
    tmp_path: Path, part_id: str | None, mark: str | None
) -> None:
    decision = Decision(Outcome.INVALID, InvalidReason.LATE, 1, 2)
    for settings, expected in ((challenged(tmp_path), mark), (settings_in(tmp_path), None)):
        with closing(new_journal(tmp_path / "left.journal")) as journal:
            sequence = journal.accept(trigger(part_id=part_id))
            entry = journal.read(sequence)
            assert entry is not None
            message = VerdictWriter(settings).message(journal.header, entry, decision)
        assert message.challenge == expected


def test_a_bad_master_is_no_reject_among_others(tmp_path: Path) -> None:
    settings = challenged(tmp_path)
    decision = Decision(Outcome.FAIL, None, 1, 2)
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        stream = follow(journal, open_writer(settings))
        for is_test in (False, True, False):
            journal.decide(journal.accept(trigger()), decision)
            stream.refresh()
            for entry, found in stream.due(0, 0):
                stream.committed(entry, found, is_test=is_test)
        assert stream.rejects.alarm(3) is None
        assert "FAIL 2" in str(stream.rejects.alarm(2))
        assert stream.counts.failed == 3  # it is a part, and counts as one


@pytest.mark.needs("mosquitto")
def test_the_ledger_process_marks_the_row_keeps_the_events_and_says_so_retained(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    source = {"kind": "folder", "path": str(tmp_path / "images")}
    cameras = {"left": {"source": source, "challenge": PARTS}}
    subscriber = Subscriber(mosquitto.port, tmp_path)
    with closing(subscriber), fed_ledger(tmp_path, mosquitto.port, cameras=cameras) as ledger:
        ledger.start()
        standing = wrong(rules.begun((GOOD, BAD), NOW))
        write_standing(challenge_file(ledger.settings.data_dir, "left"), standing)
        now = time.monotonic_ns()
        accepted = Accepted(now, time.time_ns(), now + 60 * 10**9, "MASTER-BAD", None)
        sequence = ledger.journal.accept(accepted)
        ledger.journal.capture(sequence, FRAME)
        ledger.journal.finish(sequence, judged(Outcome.PASS, time.monotonic_ns()))

        def said(ending: str) -> list[dict[str, Any]]:
            received = [m for m in subscriber.received() if m.topic.endswith(ending)]
            return [json.loads(message.payload) for message in received]

        wait_until(lambda: bool(said("/left/challenge")), 20, "no report")
        wait_until(lambda: bool(said("/left/verdict")), 20, "no verdict")
        wait_until(lambda: len(rows(ledger.settings, ROWS)) == 2, 20, "no rows")
        assert said("/left/challenge")[-1]["state"] == "failed"
        assert said("/left/verdict")[0]["challenge"] == "bad"
        marks = rows(ledger.settings, "SELECT verdict, challenge FROM verdicts")
        assert marks == [("PASS", "bad")]
        (tmp_path / "later").mkdir()
        with closing(Subscriber(mosquitto.port, tmp_path / "later")) as later:

            def kept() -> list[bool]:
                received = later.received()
                return [m.retained for m in received if m.topic.endswith("/left/challenge")]

            wait_until(lambda: kept() == [True], 20, "the report is not retained")
