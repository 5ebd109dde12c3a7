"""What the station says of its models and its parts, and what it raises an alarm for."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from ssn_agent.frames.drift_note import write_drift
from ssn_agent.frames.layout import Decision, Outcome
from ssn_agent.frames.notes import IntakeNote, ModelNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.status import model_in_force, station_status
from ssn_agent.ledger.stream import follow
from ssn_agent.ledger.verdicts import utc
from ssn_agent.settings import Settings
from ssn_contract.drift import DriftStatus
from ssn_contract.messages import InvalidReason, StationStatus
from support.ledgers import open_writer, settings_in
from support.records import DIGEST, new_journal, trigger

REFUSED = "engine openvino/bf16 is refused, onnxruntime-cpu/fp32 judges: another answer"
ANOTHER = "engine openvino/int8 is refused, onnxruntime-cpu/fp32 judges: the model does not load"
NOTES = {
    "judges": ModelNote(
        1, DIGEST, "brightness", "1.0.0", "openvino/bf16", "", (InvalidReason.DARK,)
    ),
    "one refused": ModelNote(1, DIGEST, "brightness", "1.0.0", "onnxruntime-cpu/fp32", REFUSED),
    "two refused": ModelNote(
        1, DIGEST, "brightness", "1.0.0", "onnxruntime-cpu/fp32", f"{REFUSED}\n{ANOTHER}"
    ),
    "none": ModelNote(1, "", "", "", "", "no bundle is set"),
}


@pytest.mark.parametrize(
    ("case", "engine", "alarms"),
    [
        ("judges", "openvino/bf16", []),
        ("one refused", "onnxruntime-cpu/fp32", [f"left: {REFUSED}"]),
        ("two refused", "onnxruntime-cpu/fp32", [f"left: {REFUSED}", f"left: {ANOTHER}"]),
        ("none", None, ["left: no bundle is set"]),
    ],
)
def test_the_status_names_the_engine_that_judges_and_every_one_that_was_refused(
    tmp_path: Path, case: str, engine: str | None, alarms: list[str]
) -> None:
    settings = settings_in(tmp_path)
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        journal.note_model(NOTES[case])
        status = station_status(
            settings,
            {"left": follow(journal, open_writer(settings))},
            ledger_problem=None,
            broker_problem=None,
            undelivered=0,
            refused_triggers=0,
        )
    [camera] = StationStatus.model_validate_json(status.model_dump_json()).cameras
    assert (camera.engine, status.alarms) == (engine, alarms)
    model = model_in_force(settings.station, "left", NOTES[case], None)
    assert model.engine == engine
    assert model.checks == ([InvalidReason.DARK] if case == "judges" else [])


def test_the_status_counts_what_came_to_a_camera_and_was_not_taken(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        journal.note_intake(IntakeNote(discarded_frames=2, malformed_messages=3))
        status = station_status(
            settings,
            {"left": follow(journal, open_writer(settings))},
            ledger_problem=None,
            broker_problem=None,
            undelivered=0,
            refused_triggers=4,
        )
    [camera] = status.cameras
    assert (camera.discarded_frames, camera.malformed_messages) == (2, 3)
    assert status.refused_triggers == 4


def test_parts_in_a_row_without_a_pass_raise_an_alarm_until_one_passes(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    dark = Decision(Outcome.INVALID, InvalidReason.DARK, 1, 2)
    failed, passed = Decision(Outcome.FAIL, None, 1, 2), Decision(Outcome.PASS, None, 1, 2)

    def alarms_after(*decisions: Decision, settings: Settings = settings) -> list[str]:
        with closing(new_journal(tmp_path / "left.journal", capacity=64)) as journal:
            stream = follow(journal, open_writer(settings))
            for decision in decisions:
                journal.decide(journal.accept(trigger()), decision)
            stream.refresh()
            for entry, decision in stream.due(0, 0):
                stream.committed(entry, decision)
            status = station_status(
                settings,
                {"left": stream},
                ledger_problem=None,
                broker_problem=None,
                undelivered=0,
                refused_triggers=0,
            )
        (tmp_path / "left.journal").unlink()
        return status.alarms

    assert alarms_after(*[failed] * 9, passed, *[failed] * 19) == []
    (alarm,) = alarms_after(passed, *[failed] * 8, *[dark] * 12)
    assert "left: no PASS among the last 20 parts: INVALID(dark) 12, FAIL 8" in alarm
    assert alarms_after(*[failed] * 30, passed) == []
    # What judges nothing says so in an alarm of its own.
    camera = {"source": settings.cameras["left"].source, "mode": "collect"}
    collecting = settings_in(tmp_path, cameras={"left": camera})
    assert alarms_after(*[failed] * 30, settings=collecting) == []


@pytest.mark.parametrize(("since", "alarms"), [(None, 0), (utc(1), 1)])
def test_the_status_tells_what_is_watched_for_drift_and_raises_an_alarm_where_it_drifts(
    tmp_path: Path, since: datetime | None, alarms: int
) -> None:
    settings = settings_in(tmp_path)
    settings.runtime_dir.mkdir(exist_ok=True)
    said = DriftStatus(
        statistic="score", product=None, parts=500, median=0.2, low=0.05, high=0.15, since=since
    )
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        for noted in (None, [said]):
            if noted is not None:
                write_drift(RuntimeFiles(settings.runtime_dir).drift("left"), noted)
            status = station_status(
                settings,
                {"left": follow(journal, open_writer(settings))},
                ledger_problem=None,
                broker_problem=None,
                undelivered=0,
                refused_triggers=0,
            )
            [camera] = status.cameras
            assert camera.drift == noted
    assert len(status.alarms) == alarms
    assert all(alarm.startswith("left: score drifts: median 0.2") for alarm in status.alarms)
