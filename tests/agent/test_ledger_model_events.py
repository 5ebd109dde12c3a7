"""Steps of updates, and what judges: in the ledger once, and told on the broker in order."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.notes import ModelNote
from ssn_agent.ledger.model_events import ModelEvents, ModelEventWriter, judged_by
from ssn_agent.ledger.runtime_facts import runtime_facts
from ssn_agent.settings import Settings
from ssn_agent.updates.state import Event, Followed, ModelsState, Stored, write_state
from ssn_contract.messages import ModelInForce, ModelStep, StationStatus
from support.ledger_process import Ledger, fed_ledger
from support.ledgers import open_writer, rows, settings_in
from support.mosquitto import Mosquitto, Subscriber, running_mosquitto
from support.records import START_UTC_NS
from support.waiting import wait_until

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
STEPS = "SELECT step FROM model_events WHERE step <> 'in_force' ORDER BY id"
IN_FORCE = "SELECT camera, bundle_digest, figures FROM model_events WHERE step = 'in_force'"
ENGINE = "onnxruntime-cpu/fp32"


def event(number: int, step: ModelStep, detail: str | None = None, follows: str = "screw") -> Event:
    """Return a step, the same one for the same number."""
    bundle = Stored(name=follows, version="1.1.0", digest="ef" * 32, path=Path("/b.ssn"))
    at = START + timedelta(minutes=number)
    name: Any = follows
    figures = {"parts": number}
    return Event(
        id=UUID(int=number),
        at=at,
        follows=name,
        step=step,
        bundle=bundle,
        detail=detail,
        figures=figures,
    )


PULLED, TRIED, SHADOW = event(1, "pulled"), event(2, "tried"), event(3, "shadow")
REFUSED = event(4, "refused", "disagrees: 12 of 200 parts")


def note(since: int = 0, digest: str = "ab" * 32, engine: str = ENGINE) -> ModelNote:
    return ModelNote(START_UTC_NS + since, digest, "screw", "1.0.0", engine, "")


def following(folder: Path) -> dict[str, Any]:
    """Return settings of a camera that follows `screw`."""
    root = folder / "root.json"
    root.write_text("{}")
    source = {"kind": "folder", "path": str(folder / "images")}
    return {
        "channel": {"url": "http://127.0.0.1:1", "root_file": root, "bundles": ["screw"]},
        "cameras": {"left": {"source": source, "follow": "screw"}},
    }


def decide(settings: Settings, *events: Event, again: bool = False) -> None:
    """Write them as the updates process does; `again`: what was refused may be tried again."""
    refused = {} if again else {event.bundle.digest: "worse" for event in events}
    followed = {event.follows: Followed(since=START, refused=refused) for event in events}
    write_state(settings.models_file, ModelsState(followed=followed, events=list(events)))


@pytest.fixture
def ledger(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Ledger]:
    with fed_ledger(tmp_path, mosquitto.port, **following(tmp_path)) as made:
        made.journal.note_model(note())
        yield made


def told(subscriber: Subscriber) -> list[str | None]:
    """Return the steps of the messages on `left/model`, in the order in which they came."""
    messages = [m for m in subscriber.received() if m.topic.endswith("/left/model")]
    found = [ModelInForce.model_validate_json(message.payload) for message in messages]
    return [None if model.update is None else model.update.step for model in found]


def alarms(subscriber: Subscriber) -> list[str]:
    """Return those of the newest status."""
    messages = [m for m in subscriber.received() if m.topic.endswith("/status")]
    return StationStatus.model_validate_json(messages[-1].payload).alarms if messages else []


@pytest.mark.needs("mosquitto")
def test_each_step_is_a_row_and_a_message_in_order_and_a_refusal_is_an_alarm(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        wait_until(lambda: told(subscriber) == [None], 20, "what judges is not told")
        decide(ledger.settings, PULLED, TRIED, SHADOW)
        steps: list[str | None] = ["pulled", "tried", "shadow"]
        wait_until(lambda: told(subscriber) == [None, *steps], 20, "not every step is told")
        decide(ledger.settings, PULLED, TRIED, SHADOW, REFUSED)
        wanted = "updates: screw 1.1.0 is refused: disagrees: 12 of 200 parts"
        wait_until(lambda: wanted in alarms(subscriber), 20, "no alarm")
        assert told(subscriber) == [None, *steps, "refused"]
        decide(ledger.settings, PULLED, TRIED, SHADOW, REFUSED, event(5, "pulled"))
        wait_until(lambda: alarms(subscriber) == [], 20, "the alarm does not go")
    assert rows(ledger.settings, STEPS) == [
        ("pulled",),
        ("tried",),
        ("shadow",),
        ("refused",),
        ("pulled",),
    ]
    query = "SELECT follows, bundle_version, detail, figures FROM model_events WHERE step='refused'"
    [row] = rows(ledger.settings, query)
    assert row == ("screw", "1.1.0", "disagrees: 12 of 200 parts", '{"parts": 4}')


@pytest.mark.needs("mosquitto")
def test_killed_between_the_commit_and_the_message_the_step_is_told_and_no_row_is_there_twice(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    ledger.start()
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        wait_until(lambda: told(subscriber) == [None], 20, "what judges is not told")
    # A stopped broker takes nothing more, so the message cannot go out before the kill.
    assert mosquitto.process is not None
    mosquitto.process.send_signal(signal.SIGSTOP)
    decide(ledger.settings, PULLED, TRIED)
    wait_until(lambda: len(rows(ledger.settings, STEPS)) == 2, 20, "no rows")
    ledger.end(signal.SIGKILL)
    mosquitto.kill()
    mosquitto.start()
    decide(ledger.settings, PULLED, TRIED)  # written anew, with nothing new in it
    ledger.start()
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        wait_until(lambda: bool(told(subscriber)), 20, "nothing is told")
        assert told(subscriber)[-1] == "tried"
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        wait_until(lambda: told(subscriber) == ["tried"], 20, "it is not retained")
        assert rows(ledger.settings, STEPS) == [("pulled",), ("tried",)]
        decide(ledger.settings, PULLED, TRIED, SHADOW)
        wait_until(lambda: told(subscriber) == ["tried", "shadow"], 20, "the next is not told")
    assert rows(ledger.settings, STEPS) == [("pulled",), ("tried",), ("shadow",)]
    assert len(rows(ledger.settings, IN_FORCE)) == 1


@pytest.mark.needs("mosquitto")
def test_a_broker_that_comes_back_is_told_the_newest_step_alone(tmp_path: Path) -> None:
    with (
        running_mosquitto(tmp_path) as broker,
        fed_ledger(tmp_path, broker.port, **following(tmp_path)) as ledger,
    ):
        ledger.journal.note_model(note())
        ledger.start()
        with closing(Subscriber(broker.port, tmp_path)) as subscriber:
            wait_until(lambda: told(subscriber) == [None], 20, "what judges is not told")
        broker.kill()
        decide(ledger.settings, PULLED, TRIED, SHADOW)
        wait_until(lambda: len(rows(ledger.settings, STEPS)) == 3, 20, "no rows")
        broker.start()
        with closing(Subscriber(broker.port, tmp_path)) as subscriber:
            wait_until(lambda: told(subscriber) == ["shadow"], 20, "not told")


@pytest.mark.needs("mosquitto")
def test_while_the_ledger_is_away_verdicts_go_on_and_steps_are_written_when_it_is_back(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        ledger.start()
        wait_until(lambda: told(subscriber) == [None], 20, "what judges is not told")
        with closing(sqlite3.connect(ledger.settings.ledger_path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN EXCLUSIVE")
            decide(ledger.settings, PULLED, REFUSED)
            wait_until(lambda: any("is refused" in a for a in alarms(subscriber)), 20, "no alarm")
            ledger.part(Outcome.PASS, deadline_s=1.0)

            def went_out() -> bool:
                return any(m.topic.endswith("/verdict") for m in subscriber.received())

            wait_until(went_out, 20, "the verdict is held up")
            assert told(subscriber) == [None]
        wait_until(lambda: told(subscriber) == [None, "pulled", "refused"], 20, "not told")
        wait_until(lambda: not any("model events" in a for a in alarms(subscriber)), 20, "alarm")
    assert rows(ledger.settings, STEPS) == [("pulled",), ("refused",)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path, **following(tmp_path))
    open_writer(made)
    return made


@pytest.fixture
def events(settings: Settings) -> ModelEvents:
    return anew(settings)


def anew(settings: Settings) -> ModelEvents:
    """Return what a process that starts has."""
    return ModelEvents(settings, ModelEventWriter(open_writer(settings)._engine))


def test_what_judges_is_a_row_with_what_it_runs_on_and_a_restart_makes_no_second_one(
    settings: Settings, events: ModelEvents
) -> None:
    assert events.turn({"left": None}, can_write=True) == []
    events.turn({"left": note(engine="")}, can_write=True)
    assert rows(settings, IN_FORCE) == []
    for _ in range(2):
        events.turn({"left": note()}, can_write=True)
    anew(settings).turn({"left": note()}, can_write=True)
    anew(settings).turn({"left": note(since=5)}, can_write=True)  # inference started again
    [(camera, digest, figures)] = rows(settings, IN_FORCE)
    assert (camera, digest) == ("left", "ab" * 32)
    assert json.loads(figures) == runtime_facts(ENGINE, settings)
    assert json.loads(figures)["threads"] >= 1
    events.turn({"left": note(since=6, engine="openvino/bf16")}, can_write=True)
    events.turn({"left": note(since=7, engine="openvino/bf16", digest="cd" * 32)}, can_write=True)
    events.turn({"left": note(since=8)}, can_write=True)
    engines = [json.loads(figures)["engine"] for _, _, figures in rows(settings, IN_FORCE)]
    assert engines == [ENGINE, "openvino/bf16", "openvino/bf16", ENGINE]


def test_another_version_of_what_it_runs_on_is_a_row_of_its_own(settings: Settings) -> None:
    other = settings.model_copy(
        update={"inference": settings.inference.model_copy(update={"threads": 7})}
    )
    anew(settings).turn({"left": note()}, can_write=True)
    anew(other).turn({"left": note(since=1)}, can_write=True)
    threads = [json.loads(figures)["threads"] for _, _, figures in rows(settings, IN_FORCE)]
    assert threads == [runtime_facts(ENGINE, settings)["threads"], 7]


def test_the_id_of_what_judges_is_of_station_camera_bundle_engine_and_since(
    settings: Settings,
) -> None:
    first = judged_by("left", note(), settings)["event_id"]
    assert first == judged_by("left", note(), settings)["event_id"]
    others = [
        judged_by("right", note(), settings),
        judged_by("left", note(since=1), settings),
        judged_by("left", note(digest="cd" * 32), settings),
        judged_by("left", note(engine="openvino/fp32"), settings),
    ]
    assert len({first, *(row["event_id"] for row in others)}) == 5


def test_at_the_start_the_newest_step_is_told_though_the_ledger_is_away(
    settings: Settings, events: ModelEvents
) -> None:
    decide(settings, PULLED, TRIED)
    assert events.turn({}, can_write=False) == []
    newest = events.update("left")
    assert newest is not None
    assert newest.step == "tried"
    assert events.turn({}, can_write=True) == []
    assert rows(settings, STEPS) == [("pulled",), ("tried",)]
    decide(settings, PULLED, TRIED, SHADOW, REFUSED)
    assert events.turn({}, can_write=False) == []
    assert events.turn({}, can_write=True) == [SHADOW, REFUSED]
    assert events.turn({}, can_write=True) == []


def test_a_file_that_cannot_be_read_is_taken_up_when_it_can(
    settings: Settings, events: ModelEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.models_file.write_text('{"events": [')
    assert events.turn({}, can_write=True) == []
    decide(settings, PULLED)
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    events.turn({}, can_write=True)
    assert rows(settings, STEPS) == [("pulled",)]


def test_a_full_file_of_steps_takes_a_new_ledger_no_time_that_a_line_notices(
    settings: Settings, events: ModelEvents
) -> None:
    many = [event(number, "pulled").model_copy(update={"id": uuid4()}) for number in range(256)]
    decide(settings, *many)
    began = time.process_time()
    events.turn({}, can_write=True)
    took_s = time.process_time() - began
    assert len(rows(settings, STEPS)) == 256
    assert took_s < 0.5
    began = time.process_time()
    for _ in range(100):
        events.turn({}, can_write=True)
    assert time.process_time() - began < 0.1  # nothing is read that has not changed


def test_steps_of_a_name_that_nothing_follows_any_more_raise_no_alarm(
    settings: Settings, events: ModelEvents
) -> None:
    decide(settings, event(1, "refused", "worse", follows="nut"), event(2, "rolled_back"))
    events.turn({}, can_write=True)
    assert events.alarms() == ["updates: screw 1.1.0 was rolled back: no reason is given"]
    newest = events.update("left")
    assert newest is not None
    assert newest.step == "rolled_back"


def test_a_bundle_that_may_be_tried_again_raises_no_alarm(
    settings: Settings, events: ModelEvents
) -> None:
    decide(settings, event(1, "refused", "the channel names screw 1.0.0 by now"), again=True)
    events.turn({}, can_write=True)
    assert events.alarms() == []


def test_what_an_engine_runs_on_is_known_without_loading_it() -> None:
    code = (
        "import sys, ssn_agent.ledger.process\n"
        f"from ssn_agent.inference.engines.versions import versions\nprint(versions('{ENGINE}'))\n"
        "sys.exit(bool({'numpy', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout[0].isdigit()
