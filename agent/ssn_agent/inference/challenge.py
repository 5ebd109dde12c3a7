"""Challenges of a camera: what is due when, and how it then stands. Rules alone: no I/O here.

Pictures and parts that are known to be good or bad are the items of a challenge. It is

    passed   every item was judged rightly since the challenge was due last, or somebody cleared it
    due      some items are still to come; verdicts go on, for `within`
    failed   an item was judged wrongly (INVALID is wrong, too), or has not come within that time:
             every part that is no challenge part is INVALID(challenge)

It becomes due at its very start, at each shift start (also at one that passed while the machine was
off) and when somebody asks; pictures also when another bundle or threshold judges. From `failed`
the way leads to `passed` alone: when every item is right, or by hand. So neither asking again nor
a swap lets a camera that has failed judge on. A part that is judged wrongly fails it at any time.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from uuid import UUID, uuid4

from ssn_agent.inference.challenge_state import KEPT_EVENTS, Event, Item, ItemState, Standing
from ssn_contract.messages import ChallengeState

FIRST = "the first challenge"
JUDGED_OTHERWISE = "another bundle or threshold judges"
CLOCK_SET_BACK = "the clock was set back"
OTHER_ITEMS = "the settings name other pictures or parts"


def latest_start(at: Sequence[str], now: datetime, zone: tzinfo | None = None) -> datetime | None:
    """Return the newest shift start up to now; None where none is set.

    `at` holds `HH:MM` of a time zone; None: of this machine's.
    """
    today = now.astimezone(zone).date()
    days = (today, today - timedelta(days=1))
    starts = [_moment(day, text, zone) for day in days for text in at]
    return max((start for start in starts if start <= now), default=None)


def begun(items: Collection[Item], now: datetime) -> Standing:
    """Return how a challenge stands that never was: due."""
    return Standing(
        state="due",
        since=now,
        due_at=now,
        awaited_since=now,
        items=tuple(ItemState(item=item) for item in items),
        events=(_event("due", now, why=FIRST),),
    )


def due(
    standing: Standing,
    items: Collection[Item],
    now: datetime,
    why: str,
    *,
    who: str | None = None,
    event_id: UUID | None = None,
) -> Standing:
    """Have all of these judged anew, as a shift start and a person do."""
    event = _event("due", now, why=why, who=who, event_id=event_id)
    return _changed(
        standing, now, due_at=now, items=tuple(ItemState(item=item) for item in items), event=event
    )


def is_ahead(standing: Standing, now: datetime) -> bool:
    """Say whether it was due, or is awaited, in a time that is still to come."""
    return max(standing.due_at, standing.awaited_since or standing.due_at) > now


def set_back(standing: Standing, items: Collection[Item], now: datetime) -> Standing:
    """Have all of these judged anew where the clock was ahead: no shift start would until then."""
    begun_anew = standing.model_copy(update={"awaited_since": None})
    return due(begun_anew, items, now, CLOCK_SET_BACK)


def with_items(standing: Standing, items: Collection[Item], now: datetime) -> Standing:
    """Take over what the settings name: what is new is still to come, what is gone counts no more.

    A part that is still named keeps how it was judged.
    """
    known = {state.item: state for state in standing.items}
    if set(known) == set(items):
        return standing
    states = tuple(known.get(item, ItemState(item=item)) for item in items)
    event = _event("due", now, why=OTHER_ITEMS)
    return _changed(standing, now, items=states, event=event)


def judged_by(
    standing: Standing, judge: str, pictures: Collection[Item], now: datetime
) -> Standing:
    """Have the pictures judged anew where another bundle or threshold judges; parts stay."""
    if judge == standing.judged_by or not pictures:
        return standing
    if not standing.judged_by:  # none of them was judged yet
        return standing.model_copy(update={"judged_by": judge})
    parts = tuple(state for state in standing.items if state.item.kind == "part")
    states = (*(ItemState(item=item) for item in pictures), *parts)
    event = _event("due", now, why=JUDGED_OTHERWISE)
    return _changed(standing, now, judged_by=judge, items=states, event=event)


def noted(standing: Standing, event: Event) -> Standing:
    """Take how an item was judged."""
    states = tuple(
        ItemState(item=state.item, is_right=event.is_right) if state.item == event.item else state
        for state in standing.items
    )
    return _changed(standing, event.at, items=states, event=event)


def overdue(standing: Standing, now: datetime, within: timedelta) -> Standing:
    """Fail a challenge of which something has not come in time."""
    if standing.state != "due" or standing.awaited_since is None:
        return standing
    if now - standing.awaited_since < within:
        return standing
    names = ", ".join(item.name for item in awaited(standing))
    event = _event("overdue", now, why=f"did not come in time: {names}"[:1000])
    return _changed(standing, now, state="failed", event=event)


def cleared(
    standing: Standing, now: datetime, who: str, why: str, event_id: UUID | None = None
) -> Standing:
    """Have the camera judge on by somebody's word, until it is due again."""
    states = tuple(ItemState(item=state.item, is_right=True) for state in standing.items)
    event = _event("cleared", now, who=who, why=why, event_id=event_id)
    return _changed(standing, now, items=states, event=event)


def awaited(standing: Standing) -> list[Item]:
    """Return what is still to come."""
    return [state.item for state in standing.items if state.is_right is None]


def wrong(standing: Standing) -> list[Item]:
    """Return what was judged wrongly."""
    return [state.item for state in standing.items if state.is_right is False]


def _changed(standing: Standing, now: datetime, *, event: Event, **changes: Any) -> Standing:
    after = standing.model_copy(
        update={**changes, "events": (*standing.events, event)[-KEPT_EVENTS:]}
    )
    since = (after.awaited_since or now) if awaited(after) else None
    state = _state(after)
    at = standing.since if state == standing.state else now
    return after.model_copy(update={"state": state, "since": at, "awaited_since": since})


def _state(standing: Standing) -> ChallengeState:
    if wrong(standing):
        return "failed"
    if awaited(standing):
        return "failed" if standing.state == "failed" else "due"
    return "passed"


def _event(
    what: str, now: datetime, *, why: str, who: str | None = None, event_id: UUID | None = None
) -> Event:
    return Event.model_validate(
        {"id": event_id or uuid4(), "at": now, "what": what, "who": who, "why": why}
    )


def _moment(day: date, text: str, zone: tzinfo | None) -> datetime:
    """Return a day's time as UTC; without a zone, Python takes it for the machine's."""
    return datetime.combine(day, time.fromisoformat(text), zone).astimezone(timezone.utc)
