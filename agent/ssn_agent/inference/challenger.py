"""A camera's challenge as inference runs it: pictures between two frames, parts as they come.

The rules are in `challenge`. What fails a challenge is on the disk (`challenge_state`) before its
result is in the journal: a death in between has the frame judged again, and fails it again.
"""

import time
from datetime import datetime, timedelta, timezone
from typing import Protocol
from uuid import uuid4

from ssn_agent.errors import ChallengeError, EngineError, ImageError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Outcome, Result
from ssn_agent.frames.pixels import Pixels
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference import challenge as rules
from ssn_agent.inference.challenge_images import PictureReader, picture_items
from ssn_agent.inference.challenge_settings import ChallengeSettings
from ssn_agent.inference.challenge_state import (
    Event,
    Item,
    Standing,
    challenge_file,
    read_request,
    read_standing,
    write_standing,
)
from ssn_agent.inference.model import Model
from ssn_agent.inference.results import invalid, outcome_of
from ssn_agent.log import logger
from ssn_agent.settings import CameraSettings, Settings
from ssn_contract.messages import Goodness, InvalidReason, VerdictKind

TICK_S = 0.2
"""How often requests, shift starts and pictures are looked after."""
EVERY = 8
"""While frames wait, one picture after so many turns."""
RETRY_S = 5.0


class Camera(Protocol):
    """What a challenge needs of the camera that it is of."""

    settings: CameraSettings

    @property
    def model(self) -> Model | None:
        """Return what judges where no product is named."""
        ...

    def unfit(self, image: Pixels, height: int, width: int) -> InvalidReason | None:
        """Say why a picture of the network's size, resized from this one, is not judged."""
        ...


class Challenger:
    """The challenge of one camera."""

    def __init__(
        self, name: str, challenge: ChallengeSettings, settings: Settings, journal: Journal
    ) -> None:
        """Go on where the process before this one stopped."""
        self._name = name
        self._challenge = challenge
        self._journal = journal
        self._path = challenge_file(settings.data_dir, name)
        self._request = RuntimeFiles(settings.runtime_dir).challenge_request(name)
        self._within = timedelta(minutes=challenge.within_minutes)
        self._pictures = PictureReader(challenge)
        self._counted_before = journal.head
        self._look_at = 0.0
        self._ahead_since: float | None = None
        self._turns = 0
        self._saved: Standing | None = None
        self._save_at = 0.0
        self._standing = self._taken_up()
        self._save()

    def blocks(self, sequence: int) -> bool:
        """Say whether a part is not to be judged: the challenge has failed, and it is not of it."""
        return self._standing.state == "failed" and self._known(sequence) is None

    def take_result(self, sequence: int, result: Result) -> None:
        """Look whether a part is of the challenge, before its result is in the journal."""
        entry = self._journal.read(sequence)
        if entry is None:  # the ring has moved on: it was closed long ago
            return
        reason = result.reason
        if reason is None and time.monotonic_ns() > entry.accepted.deadline_monotonic_ns:
            reason = InvalidReason.LATE  # as the ledger process will decide
        self._take_part(entry.accepted.part_id, result, reason)

    def take_uncaptured(self, entry: Entry, reason: InvalidReason) -> None:
        """Look whether a part that has no frame is of the challenge.

        One that was counted before this process was is left alone: it may have been told of.
        """
        if entry.sequence > self._counted_before:
            self._take_part(entry.accepted.part_id, invalid(reason), reason)

    def turn(self, camera: Camera, *, idle: bool) -> bool:
        """Judge a picture where one is due, and look after the rest; say whether there was one.

        While frames wait (not `idle`), one picture after `EVERY` turns.
        """
        self._turns += 1
        has_judged = (idle or self._turns % EVERY == 0) and self._judge_picture(camera)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + TICK_S
            self._look(camera, datetime.now(timezone.utc))
        return has_judged

    def close(self) -> None:
        """End in order."""
        self._pictures.close()
        self._save()

    def _taken_up(self) -> Standing:
        now = datetime.now(timezone.utc)
        try:
            standing = read_standing(self._path)
        except ChallengeError as error:
            logger().error("a challenge begins anew", camera=self._name, problem=str(error))
            standing = None
        if standing is None:
            return rules.begun(self._items(), now)
        return rules.with_items(standing, self._items(), now)

    def _items(self) -> list[Item]:
        known: tuple[tuple[Goodness, tuple[str, ...]], ...] = (
            ("good", self._challenge.good_parts),
            ("bad", self._challenge.bad_parts),
        )
        parts = [
            Item(kind="part", expected=expected, name=pattern)
            for expected, patterns in known
            for pattern in dict.fromkeys(patterns)
        ]
        return [*picture_items(self._challenge), *parts]

    def _look(self, camera: Camera, now: datetime) -> None:
        """See what became due, was asked for, or has not come."""
        self._heed_clock(now)
        start = rules.latest_start(self._challenge.at, now)
        if start is not None and self._standing.due_at < start:
            why = f"shift start {start.astimezone():%H:%M}"
            self._set(rules.due(self._standing, self._items(), now, why))
        self._heed_request(now)
        if camera.model is not None:
            judge = f"{camera.model.scorer.bundle.digest} {camera.settings.threshold}"
            if judge != self._standing.judged_by:
                pictures = picture_items(self._challenge)
                self._set(rules.judged_by(self._standing, judge, pictures, now))
        self._set(rules.overdue(self._standing, now, self._within))
        self._save()

    def _heed_clock(self, now: datetime) -> None:
        """Have it due anew where the clock was ahead of now when it was due last.

        Not at once: after a start a clock may be behind until the network sets it.
        """
        if not rules.is_ahead(self._standing, now):
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = time.monotonic()
        elif time.monotonic() - self._ahead_since >= self._within.total_seconds():
            self._set(rules.set_back(self._standing, self._items(), now))

    def _heed_request(self, now: datetime) -> None:
        try:
            request = read_request(self._request)
        except ChallengeError as error:
            logger().error("a request is not taken", camera=self._name, problem=str(error))
            self._request.unlink(missing_ok=True)
            return
        if request is None:
            return
        # The process before this one may have died between the note and the end of the request.
        if request.id not in {event.id for event in self._standing.events}:
            who, why = request.who, request.why or ""
            if request.what == "clear":
                self._set(rules.cleared(self._standing, now, who, why, request.id))
            else:
                anew = rules.due(
                    self._standing, self._items(), now, "asked for", who=who, event_id=request.id
                )
                self._set(anew)
            self._save()
        self._request.unlink(missing_ok=True)

    def _judge_picture(self, camera: Camera) -> bool:
        """Judge the next picture that is still to come, where it is read; say whether it was."""
        pictures = (item for item in rules.awaited(self._standing) if item.kind == "image")
        item = next(pictures, None)
        model = camera.model
        if item is None or model is None:
            return False
        size = model.scorer.input
        try:
            picture = self._pictures.ready(item, size.height, size.width)
        except ImageError as error:
            self._note(item, InvalidReason.UNREADABLE, why=str(error))
            return True
        if picture is None:
            return False
        unfit = camera.unfit(picture.input, picture.height, picture.width)
        if unfit is not None:
            self._note(item, unfit)
            return True
        model.prepare(picture.input, row=0)
        try:
            [scored] = model.score_prepared(1)
        except EngineError as error:
            self._note(item, InvalidReason.NO_MODEL, why=str(error))
            return True
        outcome = outcome_of(scored, camera.settings)
        self._note(item, None, outcome, scored.score, model.scorer.bundle.digest)
        return True

    def _take_part(self, part_id: str | None, result: Result, reason: InvalidReason | None) -> None:
        known = self._challenge.expected_of(part_id)
        if known is None:
            return
        item = Item(kind="part", expected=known[0], name=known[1])
        if reason is not None:
            self._note(item, reason, part_id=part_id)
        else:
            made = result.outcome, result.score, result.bundle_digest
            self._note(item, None, *made, part_id=part_id)
        self._save()

    def _note(
        self,
        item: Item,
        reason: InvalidReason | None,
        outcome: Outcome = Outcome.INVALID,
        score: float | None = None,
        digest: str | None = None,
        *,
        part_id: str | None = None,
        why: str | None = None,
    ) -> None:
        right = {"good": Outcome.PASS, "bad": Outcome.FAIL}[item.expected]
        event = Event(
            id=uuid4(),
            at=datetime.now(timezone.utc),
            what="judged",
            item=item,
            part_id=part_id,
            verdict=VerdictKind(outcome.name),
            reason=reason,
            score=score,
            bundle_digest=digest,
            is_right=outcome is right,
            why=None if why is None else why[:1000],
        )
        if not event.is_right:
            found = event.model_dump(mode="json", include={"part_id", "verdict", "reason", "why"})
            logger().error("judged wrongly", camera=self._name, **item.model_dump(), **found)
        self._set(rules.noted(self._standing, event))

    def _set(self, standing: Standing) -> None:
        before, self._standing = self._standing.state, standing
        if standing.state != before:
            logger().warning("challenge", camera=self._name, state=standing.state, before=before)

    def _save(self) -> None:
        """Have it on the disk, or try again: what is known of a failure holds here all the same."""
        if self._standing is self._saved or time.monotonic() < self._save_at:
            return
        try:
            write_standing(self._path, self._standing)
            self._saved = self._standing
        except ChallengeError as error:
            logger().error("a challenge is not kept", camera=self._name, problem=str(error))
            self._save_at = time.monotonic() + RETRY_S

    def _known(self, sequence: int) -> tuple[Goodness, str] | None:
        entry = self._journal.read(sequence)
        return None if entry is None else self._challenge.expected_of(entry.accepted.part_id)
