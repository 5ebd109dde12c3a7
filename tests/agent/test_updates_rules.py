"""What a bundle needs to come into force, and what it is gone back from for: rules alone."""

import itertools
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ssn_agent.errors import UpdateError
from ssn_agent.updates import rules
from ssn_agent.updates.evidence import (
    Live,
    Own,
    Report,
    auroc,
    is_proven,
    sign_test,
    why_back,
    why_refused,
)
from ssn_agent.updates.rules import Change
from ssn_agent.updates.settings import UpdateSettings
from ssn_agent.updates.state import (
    KEPT_EVENTS,
    KEPT_REFUSALS,
    Event,
    Followed,
    ModelsState,
    Phase,
    Stored,
    Tally,
    read_state,
    write_state,
)

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
LATER = datetime(2026, 1, 2, tzinfo=timezone.utc)
BOUNDS = UpdateSettings()


def stored(version: int) -> Stored:
    return Stored(
        name="cap", version=str(version), digest=f"{version:064x}", path=Path(f"/b/{version}.ssn")
    )


OLD, NEW, OTHER = stored(1), stored(2), stored(3)
IDLE = Followed(since=NOW)
JUDGED = Followed(since=NOW, in_force=OLD)
SHADOW = Followed(since=NOW, phase=Phase.SHADOW, in_force=OLD, candidate=NEW, attempts=1)
SWAPPING = Followed(since=NOW, phase=Phase.SWAPPING, in_force=NEW, before=OLD)
PROBATION = Followed(since=NOW, phase=Phase.PROBATION, in_force=NEW, before=OLD)
ALL = (IDLE, JUDGED, SHADOW, SWAPPING, PROBATION)


def steps(change: Change) -> list[str]:
    return [told.step for told in change.told]


# What is taken


@pytest.mark.parametrize(
    ("followed", "named", "settings_bundles", "is_taken"),
    [
        (IDLE, NEW, set(), True),
        (IDLE, NEW, {OLD.digest}, True),
        (IDLE, NEW, {NEW.digest}, False),
        (IDLE, NEW, {OLD.digest, NEW.digest}, True),  # one camera has it, another does not
        (JUDGED, NEW, {NEW.digest}, True),  # what is followed wins over the settings
        (JUDGED, OLD, set(), False),
        (JUDGED.model_copy(update={"refused": {NEW.digest: "worse"}}), NEW, set(), False),
        (JUDGED.model_copy(update={"before": NEW}), NEW, set(), True),  # a channel goes back
        (SHADOW, OTHER, set(), False),
        (SWAPPING, OTHER, set(), False),
        (PROBATION, OTHER, set(), False),
    ],
)
def test_what_the_channel_names_is_taken_once_and_one_after_another(
    followed: Followed, named: Stored, settings_bundles: set[str], is_taken: bool
) -> None:
    assert rules.is_candidate(followed, named, settings_bundles) == is_taken


def test_a_bundle_that_comes_through_leaves_what_was_before_it_known() -> None:
    change = rules.take(JUDGED, NEW)
    assert (steps(change), change.followed.phase) == (["pulled"], Phase.SHADOW)
    change = rules.attempt(change.followed)
    assert (steps(change), change.followed.attempts) == ([], 1)
    assert steps(rules.tried(change.followed, None, {})) == ["tried"]
    assert steps(rules.shadow_begins(change.followed)) == ["shadow"]
    change = rules.swap_to(change.followed, "alike", {"frames": 20}, 7, Tally())
    assert (steps(change), change.followed.phase) == (["shadow"], Phase.SWAPPING)
    assert (change.followed.in_force, change.followed.before) == (NEW, OLD)
    assert (change.followed.candidate, change.followed.faults) == (None, 7)
    change = rules.swapped(change.followed, {}, Tally(parts=3))
    assert (steps(change), change.followed.phase) == (["swapped"], Phase.PROBATION)
    change = rules.keep(change.followed, {})
    assert (steps(change), change.followed.phase) == (["kept"], Phase.IDLE)
    assert (change.followed.in_force, change.followed.before) == (NEW, OLD)


def test_a_bundle_without_anything_to_compare_it_with_has_no_shadow_to_tell_of() -> None:
    assert steps(rules.swap_to(SHADOW, None, {}, 0, Tally())) == []


def test_a_refused_bundle_leaves_what_judges_alone() -> None:
    change = rules.refuse(SHADOW, "loses")
    assert (steps(change), change.followed.phase) == (["refused"], Phase.IDLE)
    assert (change.followed.in_force, change.followed.candidate) == (OLD, None)
    assert change.followed.refused == {NEW.digest: "loses"}


def test_a_dropped_bundle_may_be_named_again() -> None:
    change = rules.drop(SHADOW, OTHER)
    assert (steps(change), change.followed.refused) == (["refused"], {})
    assert rules.is_candidate(change.followed, NEW, set())


def test_the_third_attempt_is_a_refusal_and_an_orderly_end_is_no_attempt() -> None:
    second = rules.attempt(SHADOW)
    assert (steps(second), second.followed.attempts) == ([], 2)
    third = rules.attempt(second.followed)
    assert (steps(third), third.followed.phase) == (["refused"], Phase.IDLE)
    again = rules.attempt(rules.interrupted(second.followed).followed)
    assert (steps(again), again.followed.attempts) == ([], 2)


@pytest.mark.parametrize("followed", [SWAPPING, PROBATION, rules.keep(PROBATION, {}).followed])
def test_going_back_has_what_was_before_judge_and_refuses_what_did(followed: Followed) -> None:
    change = rules.go_back(followed, "worse")
    assert steps(change) == ["rolled_back"]
    assert change.told[0].bundle == NEW
    left = change.followed
    assert (left.phase, left.in_force, left.before) == (Phase.IDLE, OLD, None)
    assert left.refused == {NEW.digest: "worse"}


def test_going_back_by_hand_works_at_any_time_at_which_something_can_judge_then() -> None:
    for followed, has_before in itertools.product(ALL, (True, False)):
        if followed.in_force is None or not has_before:
            with pytest.raises(UpdateError):
                rules.go_back_by_hand(followed, "m.weber", uuid4(), has_before=has_before)
            continue
        asked = uuid4()
        change = rules.go_back_by_hand(followed, "m.weber", asked, has_before=has_before)
        assert change.followed.phase is Phase.IDLE
        assert change.followed.candidate is None
        assert change.followed.in_force == followed.before
        assert (change.told[0].id, change.told[0].detail) == (asked, "by hand, by m.weber")


def test_a_retry_makes_a_refused_bundle_one_like_any_other() -> None:
    refused = rules.refuse(SHADOW, "loses").followed
    assert not rules.is_candidate(refused, NEW, set())
    assert rules.is_candidate(rules.retry(refused, NEW.digest).followed, NEW, set())


# What is written


def test_a_step_is_in_the_file_with_the_event_that_tells_of_it(tmp_path: Path) -> None:
    state = rules.applied(ModelsState(), "cap", rules.take(JUDGED, NEW), LATER)
    write_state(tmp_path / "models.json", state)
    read = read_state(tmp_path / "models.json")
    assert read == state
    assert read.followed["cap"].since == LATER
    (event,) = read.events
    assert (event.step, event.follows, event.bundle, event.at) == ("pulled", "cap", NEW, LATER)


def test_a_phase_that_goes_on_began_when_it_began() -> None:
    state = ModelsState(followed={"cap": SHADOW})
    after = rules.applied(state, "cap", rules.attempt(SHADOW), LATER)
    assert after.followed["cap"].since == NOW


def test_the_file_does_not_grow_without_end() -> None:
    state = ModelsState()
    followed = JUDGED
    for version in range(10, 10 + KEPT_EVENTS):
        change = rules.take(followed, stored(version))
        state = rules.applied(state, "cap", change, NOW)
        change = rules.refuse(change.followed, "x" * 5000)
        state = rules.applied(state, "cap", change, NOW)
        followed = change.followed
    assert len(state.events) == KEPT_EVENTS
    assert list(followed.refused) == [
        stored(v).digest for v in range(10 + KEPT_EVENTS - KEPT_REFUSALS, 10 + KEPT_EVENTS)
    ]
    Event.model_validate(state.events[-1].model_dump())


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 2}', '{"followed": {"cap": {}}}'])
def test_a_file_that_is_not_understood_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.json").write_text(text)
    with pytest.raises(UpdateError, match=r"models\.json: cannot be read.* put it back.*\(it"):
        read_state(tmp_path / "models.json")


# The sign test, and I-AUROC


@pytest.mark.parametrize(
    ("worse", "better", "p"),
    [(0, 0, 1), (1, 0, 0.5), (3, 0, 0.125), (4, 0, 0.0625), (6, 1, 8 / 128), (1, 1, 0.75)],
)
def test_the_sign_test_is_exact_and_one_sided(worse: int, better: int, p: float) -> None:
    assert sign_test(worse, better) == p


def report(worse: int, better: int) -> Report:
    own = Own(images=20, right=10 + better, right_before=10 + worse, better=better, worse=worse)
    return Report(live=Live(frames=20), own=own)


def test_a_bundle_loses_where_chance_would_hardly_do_so_badly() -> None:
    for worse, better in itertools.product(range(8), range(8)):
        loses = why_refused(report(worse, better)) is not None
        assert loses == (sign_test(worse, better) <= 0.1)
        assert not (loses and better >= worse)
    assert why_refused(Report(live=Live(frames=20, pass_to_fail=20), own=None)) is None


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auroc([0.1, 0.9], [False, True]) == 1
    assert auroc([0.9, 0.1], [False, True]) == 0
    assert auroc([0.5, 0.5], [False, True]) == 0.5
    assert auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auroc([0.1, 0.2], [True, True]) is None
    assert auroc([], []) is None


# Probation


BEFORE = Tally(parts=1000, failed=50, invalid=10, late=2, latency_ms=20.0)


def after(parts: int = 200, **changes: Any) -> Tally:
    alike: dict[str, Any] = {
        "failed": parts // 20,
        "invalid": parts // 100,
        "late": 0,
        "latency_ms": 21.0,
    }
    return Tally.model_validate({"parts": parts, **alike, **changes})


def test_a_bundle_that_does_as_the_one_before_is_kept() -> None:
    for parts in range(0, 500, 10):
        assert why_back(BEFORE, BEFORE, after(parts), 0, BOUNDS) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"invalid": 20}, "20 of 200 parts INVALID, before 10 of 1000"),
        ({"invalid": 12, "late": 10}, "10 of 200 parts late, before 2 of 1000"),
        ({"failed": 60}, "60 of 198 judged parts FAIL, in its shadow 50 of 990"),
        ({"latency_ms": 41.0}, "41 ms from trigger to result, before 20"),
    ],
)
def test_a_bundle_that_does_worse_is_gone_back_from(changes: dict[str, Any], words: str) -> None:
    assert words in str(why_back(BEFORE, BEFORE, after(**changes), 0, BOUNDS))


def test_a_better_bundle_may_fail_quite_other_parts_than_the_one_before() -> None:
    all_failed = Tally(parts=1000, failed=1000, latency_ms=20.0)
    seen = Tally(parts=100, failed=5)
    assert why_back(all_failed, seen, after(), 0, BOUNDS) is None
    assert "in its shadow 5 of 100" in str(why_back(all_failed, seen, after(failed=90), 0, BOUNDS))
    assert why_back(all_failed, Tally(parts=19), after(failed=90), 0, BOUNDS) is None


def test_a_bundle_that_fails_nothing_any_more_is_gone_back_from() -> None:
    before = Tally(parts=500, failed=150, latency_ms=20.0)
    assert "0 of 100 judged parts FAIL" in str(
        why_back(before, before, Tally(parts=100, latency_ms=20.0), 0, BOUNDS)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"invalid": 5},  # 1.5 % more, 2 % allowed
        {"failed": 28},  # 9 % more, 10 % allowed
        {"late": 1, "invalid": 3},  # one late part may be the disk
        {"latency_ms": 40.0},
        {"latency_ms": 60.0, "latency_share": 0.09},  # a tenth of the deadline is no harm
    ],
)
def test_what_is_within_its_bound_is_no_reason(changes: dict[str, Any]) -> None:
    assert why_back(BEFORE, BEFORE, after(**changes), 0, BOUNDS) is None


def test_what_may_be_chance_is_no_reason() -> None:
    few = Tally(parts=40, failed=2, latency_ms=20.0)
    assert why_back(few, few, Tally(parts=40, failed=8, latency_ms=20.0), 0, BOUNDS) is None
    assert why_back(few, few, Tally(parts=40, failed=14, latency_ms=20.0), 0, BOUNDS) is not None


def test_few_parts_on_either_side_say_nothing() -> None:
    all_fail = Tally(parts=29, failed=29, latency_ms=500.0)
    assert why_back(BEFORE, BEFORE, all_fail, 0, BOUNDS) is None
    assert why_back(all_fail, BEFORE, after(), 0, BOUNDS) is None
    assert why_back(Tally(), Tally(), after(failed=200, invalid=0), 0, BOUNDS) is None


def test_an_inference_that_was_replaced_is_a_reason_by_itself() -> None:
    assert "inference died" in str(why_back(Tally(), Tally(), Tally(), 1, BOUNDS))


@pytest.mark.parametrize(
    ("parts", "minutes", "proven"),
    [(200, 0, True), (199, 59, False), (20, 60, True), (19, 600, False), (0, 600, False)],
)
def test_a_probation_ends_by_parts_or_by_time(parts: int, minutes: float, proven: bool) -> None:
    assert is_proven(Tally(parts=parts), minutes, BOUNDS) == proven
