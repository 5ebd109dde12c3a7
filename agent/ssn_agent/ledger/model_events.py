"""Which bundle judged when, and why: into the ledger, and what is to be told of it.

The updates process decides, and keeps its newest steps in one file (`updates.state`); the ledger
has them all. A step is told on the broker when it is in the ledger. What a camera is judged by is
noted when it changes, with what it runs on, so that a verdict can be reproduced.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Engine, insert, select

from ssn_agent.errors import MAX_PROBLEM, LedgerError, UpdateError
from ssn_agent.frames.notes import ModelNote
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.runtime_facts import runtime_facts
from ssn_agent.ledger.tables import ModelEvent
from ssn_agent.ledger.verdicts import utc
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_agent.updates.state import Event, Followed, read_state
from ssn_contract.manifest import Digest
from ssn_contract.messages import BundleRef, ModelUpdate

IN_FORCE = "in_force"
RETRY_S = 1.0
_JUDGING = UUID("5a0b36f2-7d5c-4b5e-9a55-0c1f6f3d2e4b")
"""The namespace of the ids of `in_force`: there the ledger process takes the step itself."""
_NOT_IN_FORCE = {"refused": "is refused", "rolled_back": "was rolled back"}
_Version = tuple[int, int] | None
_UNREAD = (0, 0)

Row = dict[str, Any]


class ModelEventWriter:
    """Writes rows of `model_events`. Used by the ledger process alone."""

    def __init__(self, engine: Engine) -> None:
        """Take the ledger's engine."""
        self._engine = engine

    def write(self, rows: Sequence[Row]) -> set[UUID]:
        """Commit those that are not there yet, in this order; return their ids. Raises LedgerError.

        Of `in_force` also that which says the same as its camera's newest one is there already.
        """
        with translated(self._engine), self._engine.begin() as connection:
            ids = [row["event_id"] for row in rows]
            known = select(ModelEvent.event_id).where(ModelEvent.event_id.in_(ids))
            there = set(connection.execute(known).scalars())
            new = [
                row
                for row in rows
                if row["event_id"] not in there and not _says_the_same(connection, row)
            ]
            if new:
                connection.execute(insert(ModelEvent), new)
        return {row["event_id"] for row in new}

    def close(self) -> None:
        """Close the database; what uses it next opens it anew."""
        self._engine.dispose()


class ModelEvents:
    """Takes up what the updates process and inference have done, in the ledger process' turns."""

    def __init__(self, settings: Settings, writer: ModelEventWriter) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._writer = writer
        self._version: _Version = _UNREAD
        """Of the file that was read last."""
        self._problem: str | None = None
        self._write_problem: str | None = None
        self._retry_at_s = 0.0
        self._in_file: list[Event] = []
        self._followed: dict[str, Followed] = {}
        self._in_ledger: set[UUID] = set()
        """Of those in the file."""
        self._is_start = True
        """What is in the file was there when this process began."""
        self._judging: dict[str, ModelNote] = {}
        """What judges each camera, as far as it is in the ledger."""
        self._newest: dict[str, Event] = {}

    def turn(self, notes: Mapping[str, ModelNote | None], *, can_write: bool) -> list[Event]:
        """Bring into the ledger what is new; return the steps that are to be told, in order.

        `notes` say what judges each camera. Raises LedgerDamaged.
        """
        if time.monotonic() < self._retry_at_s:
            return []
        self._read()
        steps = [event for event in self._in_file if event.id not in self._in_ledger]
        judging = {
            camera: note
            for camera, note in notes.items()
            if note is not None and note.engine and _judges(note) != _judges(self._of(camera))
        }
        if not can_write or not (steps or judging):
            return []
        rows = [_step(event) for event in steps]
        rows += [judged_by(camera, note, self._settings) for camera, note in judging.items()]
        try:
            new = self._writer.write(rows)
        except LedgerError as error:
            self._failed(error)
            return []
        self._write_problem = None
        self._judging |= judging
        self._in_ledger |= {event.id for event in steps}
        self._newest |= {event.follows: event for event in steps}
        # What was there at the start a process before may have told: then the newest of each name
        # is told, and says where things stand.
        return [] if self._is_start else [event for event in steps if event.id in new]

    def take_over(self, settings: Settings) -> None:
        """Take over settings that changed."""
        self._settings = settings

    def update(self, camera: str) -> ModelUpdate | None:
        """Return the newest step to be told of the bundle that a camera follows."""
        event = self._newest.get(self._settings.cameras[camera].follow or "")
        return None if event is None else update_of(event)

    def alarms(self) -> list[str]:
        """Say which update is not in force, for as long as that is its name's newest step.

        One that may be tried again is none: the channel names another by now, or a person let it.
        That the file cannot be read the updates process says.
        """
        found = [f"model events: {self._write_problem}"] if self._write_problem else []
        latest = {event.follows: event for event in self._in_file}
        for name in self._settings.followed:
            event, followed = latest.get(name), self._followed.get(name)
            if event is None or followed is None or event.step not in _NOT_IN_FORCE:
                continue
            if event.bundle.digest in followed.refused:
                what = f"{name} {event.bundle.version} {_NOT_IN_FORCE[event.step]}"
                found.append(f"updates: {what}: {event.detail or 'no reason is given'}")
        return found

    def _of(self, camera: str) -> ModelNote | None:
        return self._judging.get(camera)

    def _read(self) -> None:
        """Take up the file where it has changed."""
        version = _version(self._settings.models_file)
        if version == self._version and self._problem is None:
            return
        try:
            state = read_state(self._settings.models_file)
        except UpdateError as error:
            if self._problem is None:
                logger().error("steps of updates are not taken up", problem=str(error))
            self._problem = str(error)
            self._retry_at_s = time.monotonic() + RETRY_S
            return
        events, self._followed = state.events, state.followed
        self._is_start = self._version is _UNREAD
        if self._is_start:  # a process before has them in the ledger, or this one will
            self._newest = {event.follows: event for event in events}
        self._version, self._problem = version, None
        self._in_file = events
        self._in_ledger &= {event.id for event in events}

    def _failed(self, error: LedgerError) -> None:
        if self._write_problem is None:
            logger().error("model events cannot be written", problem=str(error))
        self._write_problem = str(error)
        self._retry_at_s = time.monotonic() + RETRY_S
        self._writer.close()


def update_of(event: Event) -> ModelUpdate:
    """Return a step as messages have it."""
    stored = event.bundle
    return ModelUpdate(
        step=event.step,
        bundle=BundleRef(name=stored.name, version=stored.version, digest=stored.digest),
        at=event.at,
        detail=None if event.detail is None else event.detail[:MAX_PROBLEM],
    )


def judged_by(camera: str, note: ModelNote, settings: Settings) -> Row:
    """Return the row that says what judges a camera, and what that runs on."""
    key = (settings.station, camera, note.bundle_digest, note.engine, note.since_utc_ns)
    return _row(
        event_id=uuid5(_JUDGING, "/".join(map(str, key))),
        at=utc(note.since_utc_ns),
        step=IN_FORCE,
        camera=camera,
        bundle=(note.bundle_name, note.bundle_version, note.bundle_digest),
        detail=note.message or None,
        figures=runtime_facts(note.engine, settings),
    )


def _step(event: Event) -> Row:
    stored = event.bundle
    return _row(
        event_id=event.id,
        at=event.at,
        step=event.step,
        follows=event.follows,
        bundle=(stored.name, stored.version, stored.digest),
        detail=event.detail,
        figures=event.figures,
    )


def _row(
    *,
    event_id: UUID,
    at: datetime,
    step: str,
    bundle: tuple[str, str, Digest],
    detail: str | None,
    figures: Mapping[str, float | int | str | None],
    follows: str | None = None,
    camera: str | None = None,
) -> Row:
    name, version, digest = (part or None for part in bundle)
    return {
        "event_id": event_id,
        "at": at,
        "step": step,
        "follows": follows,
        "camera": camera,
        "bundle_name": name,
        "bundle_version": version,
        "bundle_digest": digest,
        "detail": detail,
        "figures": json.dumps(figures, sort_keys=True),
    }


def _says_the_same(connection: Connection, row: Row) -> bool:
    """Say whether a row of `in_force` says what its camera's newest one does."""
    if row["step"] != IN_FORCE:
        return False
    newest = (
        select(ModelEvent.bundle_digest, ModelEvent.figures)
        .where(ModelEvent.step == IN_FORCE, ModelEvent.camera == row["camera"])
        .order_by(ModelEvent.id.desc())
        .limit(1)
    )
    found = connection.execute(newest).first()
    return found is not None and tuple(found) == (row["bundle_digest"], row["figures"])


def _judges(note: ModelNote | None) -> tuple[int, str, str] | None:
    return None if note is None else (note.since_utc_ns, note.bundle_digest, note.engine)


def _version(path: Path) -> _Version:
    """Return what changes with each writing of a file; None: it is not there."""
    try:
        found = path.stat()
    except OSError:  # whoever reads it says why
        return None
    return found.st_mtime_ns, found.st_ino
