"""How challenges stand, from inference's files (`inference.challenge_state`): into the ledger, and
to the broker. Run by the ledger process.

A file is read when it has changed. Its events have ids, and those that the ledger lacks are rows
then: whichever process dies, each becomes one row, as long as the ledger is not away for longer
than the file keeps them.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import Engine, insert, select

from ssn_agent.errors import ChallengeError, LedgerError
from ssn_agent.inference.challenge_state import Event, Standing, challenge_file, read_standing
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.tables import ChallengeEvent
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_contract.challenge import ChallengeCleared, ChallengeItem, ChallengeReport
from ssn_contract.topics import Topics

LOOK_S = 0.5
RETRY_S = 5.0


class Say(Protocol):
    """How a message is published."""

    def __call__(self, topic: str, text: str, *, retain: bool) -> bool:
        """Publish what the next one replaces; False: there is no room for it at present."""
        ...


class Challenges:
    """The challenges of all cameras that have one."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Take the ledger's engine; touches nothing yet."""
        self._station = settings.station
        self._topics = Topics(settings.station)
        self._engine = engine
        self._files = {
            name: challenge_file(settings.data_dir, name)
            for name, camera in settings.cameras.items()
            if camera.challenge is not None
        }
        self.standings: dict[str, Standing] = {}
        """By camera, as they were read last."""
        self._read: dict[str, tuple[int, int]] = {}
        """Which file it was, as each change replaces it, and its time."""
        self._unwritten: set[str] = set()
        self._unsaid: set[str] = set()
        self._look_at = 0.0
        self._write_at = 0.0

    def forget(self) -> None:
        """Say all of it again: the connection is another one."""
        self._unsaid.update(self.standings)

    def turn(self, say: Say, *, can_write: bool) -> None:
        """Take up what has changed, keep it and say it. Raises LedgerDamaged."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            for camera in self._files:
                self._look(camera)
        if can_write and self._unwritten and time.monotonic() >= self._write_at:
            self._write()
        for camera in sorted(self._unsaid):
            text = report(str(self._station), camera, self.standings[camera]).model_dump_json()
            if say(self._topics.challenge(camera), text, retain=True):
                self._unsaid.remove(camera)

    def _look(self, camera: str) -> None:
        path = self._files[camera]
        try:
            found = path.stat()
            version = found.st_ino, found.st_mtime_ns
            if version == self._read.get(camera):
                return
            self._read[camera] = version
            standing = read_standing(path)
        except FileNotFoundError:  # inference has not written it yet
            return
        except (OSError, ChallengeError) as error:
            logger().error("a challenge is not known", camera=camera, problem=str(error))
            return
        if standing is not None:
            self.standings[camera] = standing
            self._unwritten.add(camera)
            self._unsaid.add(camera)

    def _write(self) -> None:
        try:
            for camera in sorted(self._unwritten):
                keep(self._engine, camera, self.standings[camera].events)
                self._unwritten.remove(camera)
        except LedgerError as error:
            logger().error("challenges cannot be written", problem=str(error))
            self._write_at = time.monotonic() + RETRY_S


def keep(engine: Engine, camera: str, events: tuple[Event, ...]) -> None:
    """Make rows of the events that the ledger lacks. Raises LedgerError."""
    ids = [event.id for event in events]
    known = select(ChallengeEvent.event_id).where(ChallengeEvent.event_id.in_(ids))
    with translated(engine), engine.begin() as connection:
        there = set(connection.execute(known).scalars())
        rows = [_row(camera, event) for event in events if event.id not in there]
        if rows:
            connection.execute(insert(ChallengeEvent), rows)


def report(station: str, camera: str, standing: Standing) -> ChallengeReport:
    """Return the message of how a camera's challenge stands."""
    newest = {event.item: event for event in standing.events if event.item is not None}
    items = []
    for state in standing.items:
        event = newest.get(state.item)
        items.append(
            ChallengeItem(
                kind=state.item.kind,
                name=state.item.name,
                expected=state.item.expected,
                passed=state.is_right,
                part_id=event.part_id if event else None,
                verdict=event.verdict if event else None,
                reason=event.reason if event else None,
                score=event.score if event else None,
                at=event.at if event else None,
            )
        )
    return ChallengeReport(
        station=station,
        camera=camera,
        state=standing.state,
        since=standing.since,
        items=items,
        cleared=_cleared(standing),
    )


def alarm(standing: Standing) -> str | None:
    """Say what is to be done about a challenge that is not passed."""
    if standing.state == "passed":
        return None
    wrong, awaited = (
        ", ".join(state.item.name for state in standing.items if state.is_right is right)
        for right in (False, None)
    )
    if standing.state == "due":
        return f"challenge due (ssn-agent challenge show), still to come: {awaited}"
    begins = "challenge failed, parts are INVALID (ssn-agent challenge show)"
    return f"{begins}: wrong {wrong or '-'}; to come {awaited or '-'}"


def _cleared(standing: Standing) -> ChallengeCleared | None:
    found = [event for event in standing.events if event.what in {"due", "cleared"}]
    if not found or found[-1].what == "due" or found[-1].who is None:
        return None
    return ChallengeCleared(at=found[-1].at, who=found[-1].who, why=found[-1].why or "")


def _row(camera: str, event: Event) -> Mapping[str, Any]:
    item = event.item
    return {
        "event_id": event.id,
        "at": event.at,
        "camera": camera,
        "what": event.what,
        "kind": item.kind if item else None,
        "name": item.name if item else None,
        "expected": item.expected if item else None,
        "part_id": event.part_id,
        "verdict": event.verdict.value if event.verdict else None,
        "reason": event.reason.value if event.reason else None,
        "score": event.score,
        "bundle_digest": event.bundle_digest,
        "is_right": event.is_right,
        "who": event.who,
        "why": event.why,
    }
