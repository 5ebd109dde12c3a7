"""What the station says of itself: counts that add up, cameras, models, alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from ssn_agent import __version__
from ssn_agent.frames.drift_note import drift_alarm, read_drift
from ssn_agent.frames.notes import CameraState, IntakeNote, ModelNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.challenge_state import Standing
from ssn_agent.ledger.challenges import alarm as challenge_alarm
from ssn_agent.ledger.stream import PendingTriggers
from ssn_agent.ledger.verdicts import invalid_counts, utc
from ssn_agent.settings import Settings
from ssn_agent.supervisor.note import SupervisorNote
from ssn_contract.drift import DriftStatus
from ssn_contract.messages import (
    BundleRef,
    CameraStatus,
    LabelCounts,
    ModelInForce,
    ModelUpdate,
    StationStatus,
)
from ssn_contract.topics import Station


def station_status(
    settings: Settings,
    streams: dict[str, PendingTriggers],
    *,
    ledger_problem: str | None,
    broker_problem: str | None,
    undelivered: int | None,
    refused_triggers: int,
    labels: LabelCounts | None = None,
    refused_labels: int = 0,
    challenges: Mapping[str, Standing] | None = None,
    ledger_alarms: Sequence[str] = (),
) -> StationStatus:
    """Return the status of a station that is online, but for what the supervisor says."""
    alarms = [f"ledger: {ledger_problem}"] if ledger_problem else []
    alarms += ledger_alarms
    if broker_problem:
        alarms.append(f"broker: {broker_problem}")
    files = RuntimeFiles(settings.runtime_dir)
    drift = {name: read_drift(files.drift(name)) for name in streams}
    standings = challenges or {}
    for name, stream in streams.items():
        camera = settings.cameras[name]
        # That nothing is judged is one alarm, not two.
        after = 0 if camera.mode == "collect" else camera.alarm_after
        alarms += _camera_alarms(name, stream, after)
        found = [drift_alarm(one) for one in drift[name] or ()]
        if name in standings:
            found.append(challenge_alarm(standings[name]))
        alarms += [f"{name}: {alarm}" for alarm in found if alarm is not None]
    return StationStatus(
        station=str(settings.station),
        state="online",
        at=datetime.now(timezone.utc),
        agent=__version__,
        ledger="faulty" if ledger_problem else "ok",
        undelivered=undelivered,
        refused_triggers=refused_triggers,
        labels=labels,
        refused_labels=refused_labels,
        alarms=[alarm[:200] for alarm in alarms],
        cameras=[
            _camera(name, stream, drift[name], standings.get(name))
            for name, stream in streams.items()
            if stream.is_counted
        ],
    )


def with_supervisor(status: StationStatus, note: SupervisorNote) -> StationStatus:
    """Add what the supervisor says."""
    return status.model_copy(
        update={
            "alarms": [alarm[:200] for alarm in (*status.alarms, *note.alarms)],
            "processes": note.processes,
            "settings": note.settings,
        }
    )


def offline_status(settings: Settings) -> StationStatus:
    """Return what the broker publishes when it loses us, and what we publish when we go."""
    return StationStatus(
        station=str(settings.station),
        state="offline",
        at=datetime.now(timezone.utc),
        agent=__version__,
        ledger=None,
        undelivered=None,
        alarms=[],
        cameras=[],
        processes=[],
        settings=None,
    )


def model_in_force(
    station: Station, camera: str, note: ModelNote, update: ModelUpdate | None
) -> ModelInForce:
    """Return which bundle judges a camera's frames, and how far another one has come."""
    return ModelInForce(
        station=str(station),
        camera=camera,
        bundle=bundle_of(note),
        engine=note.engine or None,
        since=utc(note.since_utc_ns),
        checks=list(note.checks),
        update=update,
    )


def bundle_of(note: ModelNote) -> BundleRef | None:
    """Return the bundle that judges, or None where nothing does."""
    if not note.bundle_digest:
        return None
    return BundleRef(name=note.bundle_name, version=note.bundle_version, digest=note.bundle_digest)


def _camera(
    name: str,
    stream: PendingTriggers,
    drift: list[DriftStatus] | None,
    challenge: Standing | None,
) -> CameraStatus:
    note = stream.journal.camera_note()
    state = CameraState.STARTING if note is None else note.state
    model = stream.journal.model_note()
    intake = stream.journal.intake_note() or IntakeNote()
    return CameraStatus.model_validate(
        {
            "camera": name,
            "state": state.name.lower(),
            "engine": None if model is None else model.engine or None,
            "epoch": stream.journal.header.epoch,
            "triggers": stream.triggers,
            "passed": stream.counts.passed,
            "failed": stream.counts.failed,
            "invalid": invalid_counts(stream.counts.invalid),
            "pending": stream.pending,
            "drift": drift,
            **asdict(intake),
            "challenge": None if challenge is None else challenge.state,
        }
    )


def _camera_alarms(name: str, stream: PendingTriggers, alarm_after: int) -> list[str]:
    alarms = []
    camera = stream.journal.camera_note()
    if camera is not None and camera.state is CameraState.FAULTY:
        alarms.append(f"{name}: {camera.message}")
    model = stream.journal.model_note()
    if model is not None:
        alarms += [f"{name}: {line}" for line in model.message.splitlines()]
    rejects = stream.rejects.alarm(alarm_after)
    if rejects is not None:
        alarms.append(f"{name}: {rejects}")
    return alarms
