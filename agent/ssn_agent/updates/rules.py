"""The steps of a bundle into force and out of it: rules alone, no file and no clock here.

    idle ── a newer bundle came: `pulled` ──> shadow ── done: `shadow` ──> swapping
     ^                                          │                             │
     │<── cannot be used, loses, dies twice, ───┤                      inference judges by it:
     │    not named any more: `refused`         │                         `swapped`
     │                                          │                             v
     │<── no incumbent: tried, and swapped to at once                     probation
     │                                                                        │
     └──── proven: `kept`; worse, or not loaded, or by hand: `rolled_back` ───┘

Each function takes where a followed name stands and returns where it stands then, with the events
that tell of it; both are written at once. The order is that of a bundle's life:

1. `is_candidate`, `take`: what the channel names now, once, unless it was refused.
2. `attempt`, `tried`, `shadow_begins`: a process of its own tries it; one that has killed that
   process, or ours, twice is refused. `drop`: the channel names another by now.
3. `refuse`, or `swap_to`.
4. `swapped`: inference says that it judges.
5. `keep`, or `go_back`: that works from step 3 on, and by hand at any time later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from ssn_agent.errors import UpdateError
from ssn_agent.updates.state import (
    KEPT_EVENTS,
    KEPT_REFUSALS,
    Event,
    Figures,
    Followed,
    Mark,
    ModelsState,
    Phase,
    Stored,
    Tally,
)
from ssn_contract.messages import ModelStep

MAX_ATTEMPTS = 2
MAX_DETAIL = 1000


@dataclass(frozen=True)
class Told:
    """A step, before it has its time and its id."""

    step: ModelStep
    bundle: Stored
    detail: str | None = None
    figures: Figures | None = None
    id: UUID | None = None


@dataclass(frozen=True)
class Change:
    """Where a name stands from now on, and what there is to tell."""

    followed: Followed
    told: tuple[Told, ...] = ()


def applied(state: ModelsState, follows: str, change: Change, now: datetime) -> ModelsState:
    """Return the state with a change in it."""
    before = state.followed.get(follows)
    followed = change.followed
    if before is None or before.phase is not followed.phase:
        followed = followed.model_copy(update={"since": now})
    events = [
        Event(
            id=told.id or uuid4(),
            at=now,
            follows=follows,
            step=told.step,
            bundle=told.bundle,
            detail=None if told.detail is None else told.detail[:MAX_DETAIL],
            figures=told.figures or {},
        )
        for told in change.told
    ]
    return ModelsState(
        followed={**state.followed, follows: followed},
        events=[*state.events, *events][-KEPT_EVENTS:],
    )


def is_candidate(followed: Followed, named: Stored, incumbents: Collection[str]) -> bool:
    """Say whether what the channel names is to be tried.

    `incumbents`: the digests of the settings' bundles where nothing else is in force. What was in
    force before is one like any other: a channel goes back by naming it again.
    """
    if followed.phase is not Phase.IDLE or named.digest in followed.refused:
        return False
    judging = incumbents if followed.in_force is None else {followed.in_force.digest}
    return set(judging) != {named.digest}


def take(followed: Followed, named: Stored) -> Change:
    """Have what the channel names as the candidate."""
    new = _at(followed, Phase.SHADOW, candidate=named, attempts=0)
    return Change(new, (Told("pulled", named),))


def attempt(followed: Followed) -> Change:
    """Begin its shadow, for the first time or again; refuse one that was the end of too many."""
    if followed.attempts >= MAX_ATTEMPTS:
        why = f"its shadow, or the updates process with it, died {followed.attempts} times"
        return refuse(followed, f"{why} (see the log)")
    return Change(followed.model_copy(update={"attempts": followed.attempts + 1}))


def interrupted(followed: Followed) -> Change:
    """Note that a shadow is ended in order: that attempt does not count."""
    return Change(followed.model_copy(update={"attempts": max(0, followed.attempts - 1)}))


def tried(followed: Followed, detail: str | None, figures: Figures) -> Change:
    """Note that it opens and reproduces its vectors."""
    return Change(followed, (Told("tried", _candidate(followed), detail, figures),))


def shadow_begins(followed: Followed) -> Change:
    """Note that it scores what the one in force judges."""
    return Change(followed, (Told("shadow", _candidate(followed), "begins"),))


def drop(followed: Followed, named: Stored) -> Change:
    """Leave a candidate that the channel names no more; it may be named again."""
    words = f"the channel names {named.name} {named.version} by now"
    told = Told("refused", _candidate(followed), words)
    return Change(_at(followed, Phase.IDLE, candidate=None, attempts=0), (told,))


def refuse(followed: Followed, why: str, figures: Figures | None = None) -> Change:
    """Leave a candidate for good."""
    candidate = _candidate(followed)
    new = _at(
        followed,
        Phase.IDLE,
        candidate=None,
        attempts=0,
        refused=_refused(followed, candidate, why),
    )
    return Change(new, (Told("refused", candidate, why, figures),))


def swap_to(
    followed: Followed, detail: str | None, figures: Figures, faults: int, foreseen: Tally
) -> Change:
    """Have the candidate judge, as soon as inference has loaded it.

    Without `detail` there was no incumbent, so no shadow, and nothing is `foreseen`. `faults`: how
    often inference was replaced so far.
    """
    candidate = _candidate(followed)
    new = _at(
        followed,
        Phase.SWAPPING,
        in_force=candidate,
        before=followed.in_force,
        candidate=None,
        attempts=0,
        faults=faults,
        marks={},
        baseline=Tally(),
        foreseen=foreseen,
    )
    told = () if detail is None else (Told("shadow", candidate, detail, figures),)
    return Change(new, told)


def swapped(followed: Followed, marks: dict[str, Mark], baseline: Tally) -> Change:
    """Note that it judges, on probation."""
    in_force = _in_force(followed)
    new = _at(followed, Phase.PROBATION, marks=marks, baseline=baseline)
    return Change(new, (Told("swapped", in_force, None, baseline.model_dump()),))


def keep(followed: Followed, figures: Figures) -> Change:
    """Note that it has proven itself; `before` stays known."""
    told = Told("kept", _in_force(followed), None, figures)
    return Change(_at(followed, Phase.IDLE, marks={}), (told,))


def go_back(
    followed: Followed, why: str, figures: Figures | None = None, id_: UUID | None = None
) -> Change:
    """Have what was in force before judge again, and take what judges for refused."""
    bad = _in_force(followed)
    new = _at(
        followed,
        Phase.IDLE,
        in_force=followed.before,
        before=None,
        candidate=None,
        attempts=0,
        marks={},
        refused=_refused(followed, bad, why),
    )
    return Change(new, (Told("rolled_back", bad, why, figures, id_),))


def go_back_by_hand(followed: Followed, by: str, id_: UUID, *, has_before: bool) -> Change:
    """Go back because somebody asks, whatever is under way.

    `has_before`: whether something judges then. Raises UpdateError where nothing would.
    """
    if followed.in_force is None:
        msg = "nothing that was followed judges there; change the settings' bundle instead"
        raise UpdateError(msg)
    if not has_before:
        msg = "nothing judged before it, and the settings name no bundle; set one first"
        raise UpdateError(msg)
    return go_back(followed, f"by hand, by {by}", None, id_)


def retry(followed: Followed, digest: str) -> Change:
    """Let a refused bundle be tried again, where the channel names it."""
    left = {known: why for known, why in followed.refused.items() if known != digest}
    return Change(followed.model_copy(update={"refused": left}))


def _at(followed: Followed, phase: Phase, **changes: object) -> Followed:
    return followed.model_copy(update={"phase": phase, **changes})


def _refused(followed: Followed, bundle: Stored, why: str) -> dict[str, str]:
    others = {known: said for known, said in followed.refused.items() if known != bundle.digest}
    newest = [*others.items(), (bundle.digest, why[:MAX_DETAIL])]
    return dict(newest[-KEPT_REFUSALS:])


def _candidate(followed: Followed) -> Stored:
    if followed.candidate is None:
        raise UpdateError("models.json: in shadow, and no candidate; delete the file")
    return followed.candidate


def _in_force(followed: Followed) -> Stored:
    if followed.in_force is None:
        raise UpdateError("models.json: on probation, and nothing in force; delete the file")
    return followed.in_force
