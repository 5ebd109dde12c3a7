"""When a challenge is due, how it stands after which result, and what leads out of `failed`."""

from datetime import datetime, timedelta, timezone
from itertools import product
from typing import get_args
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_agent.inference import challenge as rules
from ssn_agent.inference.challenge_settings import ChallengeSettings
from ssn_agent.inference.challenge_state import KEPT_EVENTS, Event, Item, Standing
from ssn_contract.messages import ChallengeState

NOW = datetime(2026, 1, 1, 6, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
WITHIN = 15 * MINUTE
GOOD = Item(kind="part", expected="good", name="MASTER-GOOD-*")
BAD = Item(kind="part", expected="bad", name="MASTER-BAD-*")
PICTURE = Item(kind="image", expected="bad", name="scratch.png")
OTHER_PICTURE = Item(kind="image", expected="good", name="clean.png")
ITEMS = (PICTURE, OTHER_PICTURE, GOOD, BAD)
PICTURES = (PICTURE, OTHER_PICTURE)


def judged(item: Item, *, right: bool, at: datetime = NOW) -> Event:
    return Event(id=uuid4(), at=at, what="judged", item=item, is_right=right)


def passed(at: datetime = NOW, judge: str = "first") -> Standing:
    standing = rules.judged_by(rules.begun(ITEMS, at), judge, PICTURES, at)
    for item in ITEMS:
        standing = rules.noted(standing, judged(item, right=True, at=at))
    assert standing.state == "passed"
    return standing


def failed() -> Standing:
    standing = rules.noted(passed(), judged(BAD, right=False))
    assert standing.state == "failed"
    return standing


def test_a_challenge_that_never_was_is_due_until_every_item_was_right() -> None:
    standing = rules.begun(ITEMS, NOW)
    for item in ITEMS:
        assert standing.state == "due"
        assert item in rules.awaited(standing)
        standing = rules.noted(standing, judged(item, right=True, at=NOW + MINUTE))
    assert (standing.state, standing.since, standing.awaited_since) == (
        "passed",
        NOW + MINUTE,
        None,
    )


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_one_wrong_item_fails_it_whatever_it_was(item: Item) -> None:
    for before in (rules.begun(ITEMS, NOW), passed(), failed()):
        after = rules.noted(before, judged(item, right=False))
        assert after.state == "failed"
        assert item in rules.wrong(after)


def test_what_was_wrong_and_is_right_when_it_comes_again_clears_it() -> None:
    standing = rules.noted(failed(), judged(BAD, right=True, at=NOW + MINUTE))
    assert (standing.state, standing.since) == ("passed", NOW + MINUTE)


def test_another_item_that_is_right_does_not_make_up_for_the_wrong_one() -> None:
    assert rules.noted(failed(), judged(GOOD, right=True)).state == "failed"


def test_a_part_that_is_wrong_after_the_challenge_was_passed_fails_it() -> None:
    later = NOW + 3 * WITHIN
    assert rules.noted(passed(), judged(GOOD, right=False, at=later)).state == "failed"


def test_verdicts_go_on_while_items_may_still_come_and_not_a_moment_longer() -> None:
    standing = rules.begun(ITEMS, NOW)
    assert rules.overdue(standing, NOW + WITHIN - timedelta(seconds=1), WITHIN) is standing
    late = rules.overdue(standing, NOW + WITHIN, WITHIN)
    assert (late.state, late.since) == ("failed", NOW + WITHIN)
    assert "MASTER-GOOD-*" in str(late.events[-1].why)
    assert rules.overdue(late, NOW + 2 * WITHIN, WITHIN) is late


def test_one_that_failed_for_lateness_is_passed_when_the_last_item_has_come() -> None:
    standing = rules.overdue(rules.begun((GOOD, BAD), NOW), NOW + WITHIN, WITHIN)
    standing = rules.noted(standing, judged(GOOD, right=True))
    assert standing.state == "failed"
    assert rules.noted(standing, judged(BAD, right=True)).state == "passed"


def test_asking_again_or_a_swap_gives_a_due_challenge_no_more_time() -> None:
    standing = rules.judged_by(rules.begun(ITEMS, NOW), "first", PICTURES, NOW)
    standing = rules.due(standing, ITEMS, NOW + 10 * MINUTE, "asked for", who="anna")
    standing = rules.judged_by(standing, "second", PICTURES, NOW + 12 * MINUTE)
    assert rules.overdue(standing, NOW + WITHIN, WITHIN).state == "failed"


@pytest.mark.parametrize("step", ["asked for", "swap", "other items", "passes of others"])
def test_nothing_but_right_results_and_a_persons_word_leads_out_of_failed(step: str) -> None:
    standing = failed()
    if step == "asked for":
        standing = rules.due(standing, ITEMS, NOW, "asked for", who="anna")
    elif step == "swap":
        standing = rules.judged_by(standing, "second", PICTURES, NOW)
    elif step == "other items":
        new = Item(kind="part", expected="bad", name="MASTER-BAD-2")
        standing = rules.with_items(standing, (*ITEMS, new), NOW)
    else:
        for item in set(ITEMS) - {BAD}:
            standing = rules.noted(standing, judged(item, right=True))
    assert standing.state == "failed"


def test_asked_again_a_failed_one_is_passed_when_all_were_right_again() -> None:
    standing = rules.due(failed(), ITEMS, NOW, "asked for", who="anna")
    for item in ITEMS:
        assert standing.state == "failed"
        standing = rules.noted(standing, judged(item, right=True))
    assert standing.state == "passed"


def test_a_persons_word_clears_it_until_it_is_due_again_and_is_kept() -> None:
    key = UUID(int=7)
    standing = rules.cleared(failed(), NOW + MINUTE, "m.weber", "wrong master", key)
    assert (standing.state, rules.wrong(standing), rules.awaited(standing)) == ("passed", [], [])
    event = standing.events[-1]
    assert (event.id, event.what, event.who, event.why) == (
        key,
        "cleared",
        "m.weber",
        "wrong master",
    )
    again = rules.due(standing, ITEMS, NOW + 2 * MINUTE, "shift start 14:00")
    assert (again.state, again.awaited_since) == ("due", NOW + 2 * MINUTE)


def test_another_bundle_or_threshold_has_the_pictures_judged_anew_and_leaves_the_parts() -> None:
    standing = rules.judged_by(passed(), "second", PICTURES, NOW + MINUTE)
    assert standing.state == "due"
    assert set(rules.awaited(standing)) == set(PICTURES)
    assert rules.judged_by(standing, "second", PICTURES, NOW) is standing


def test_without_pictures_a_swap_changes_nothing() -> None:
    standing = rules.begun((GOOD, BAD), NOW)
    assert rules.judged_by(standing, "second", (), NOW) is standing


def test_what_the_settings_no_longer_name_counts_no_more_and_what_is_new_is_awaited() -> None:
    new = Item(kind="part", expected="good", name="MASTER-GOOD-2")
    standing = rules.with_items(passed(), (GOOD, BAD, new), NOW + MINUTE)
    assert rules.awaited(standing) == [new]
    assert standing.state == "due"
    assert rules.with_items(passed(), ITEMS, NOW).state == "passed"
    assert rules.with_items(failed(), (GOOD,), NOW).state == "passed"


def test_the_events_kept_are_the_newest_and_bounded() -> None:
    standing = passed()
    for _ in range(KEPT_EVENTS + 5):
        standing = rules.noted(standing, judged(GOOD, right=True))
    assert len(standing.events) == KEPT_EVENTS


STEPS = st.one_of(
    st.tuples(st.just("judged"), st.sampled_from(ITEMS), st.booleans()),
    st.tuples(st.just("due"), st.none(), st.none()),
    st.tuples(st.just("swap"), st.sampled_from(["a", "b", "c"]), st.none()),
    st.tuples(st.just("clear"), st.none(), st.none()),
    st.tuples(st.just("time"), st.integers(0, 20), st.none()),
)


@given(st.lists(STEPS, max_size=25))
def test_whatever_comes_passed_means_all_right_and_failed_ends_by_that_or_by_word(
    steps: list[tuple[str, object, object]],
) -> None:
    now = NOW
    standing = rules.begun(ITEMS, now)
    for what, item, right in steps:
        before = standing.state
        if what == "judged":
            assert isinstance(item, Item)
            standing = rules.noted(standing, judged(item, right=bool(right), at=now))
        elif what == "due":
            standing = rules.due(standing, ITEMS, now, "asked for")
        elif what == "swap":
            standing = rules.judged_by(standing, str(item), PICTURES, now)
        elif what == "clear":
            standing = rules.cleared(standing, now, "anna", "why")
        else:
            assert isinstance(item, int)
            now += item * MINUTE
        standing = rules.overdue(standing, now, WITHIN)
        is_all_right = all(state.is_right for state in standing.items)
        assert (standing.state == "passed") == is_all_right
        assert (standing.awaited_since is None) == (not rules.awaited(standing))
        if rules.wrong(standing):
            assert standing.state == "failed"
        if before == "failed":
            assert standing.state in {"failed", "passed"}
        if standing.state == "due":
            assert standing.awaited_since is not None
            assert now - standing.awaited_since < WITHIN
        assert Standing.model_validate_json(standing.model_dump_json()) == standing
    assert standing.state in get_args(ChallengeState)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-01-01T05:00Z", "2026-01-01T05:00Z"),  # 06:00 in Berlin, to the second
        ("2026-01-01T04:59:59Z", "2025-12-31T21:00Z"),  # still the night shift
        ("2026-01-01T23:30Z", "2026-01-01T21:00Z"),  # past midnight there
        ("2026-07-01T04:00Z", "2026-07-01T04:00Z"),  # in summer
        ("2026-03-29T03:00Z", "2026-03-28T21:00Z"),  # the clock went forward in between
        ("2026-10-25T03:00Z", "2026-10-24T20:00Z"),  # and back
    ],
)
def test_a_shift_starts_by_the_clock_on_the_wall_also_where_that_is_changed(
    now: str, start: str
) -> None:
    moment, expected = (
        datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (now, start)
    )
    assert rules.latest_start(("06:00", "14:00", "22:00"), moment, BERLIN) == expected


def test_without_shifts_none_has_started() -> None:
    assert rules.latest_start((), NOW) is None


def test_a_machine_without_a_zone_of_its_own_given_goes_by_its_own_clock() -> None:
    local = NOW.astimezone()
    assert rules.latest_start((f"{local:%H:%M}",), NOW + MINUTE) == NOW


def test_settings_name_something_good_and_something_bad_by_pictures_or_parts() -> None:
    for good, bad in product(("good_images", "good_parts"), ("bad_images", "bad_parts")):
        given_ = {name: "/srv/x" if name.endswith("images") else ["M-*"] for name in (good, bad)}
        ChallengeSettings.model_validate(given_)
        for one in (good, bad):
            with pytest.raises(ValueError, match="nothing good or nothing bad"):
                ChallengeSettings.model_validate({one: given_[one]})


@pytest.mark.parametrize("at", ["6:00", "24:00", "06:60", "06:00:00", ""])
def test_a_shift_start_is_hours_and_minutes(at: str) -> None:
    with pytest.raises(ValueError, match="at"):
        ChallengeSettings(good_parts=("G",), bad_parts=("B",), at=(at,))


def test_a_part_is_known_by_the_first_pattern_and_bad_before_good() -> None:
    settings = ChallengeSettings(good_parts=("MASTER-*", "G"), bad_parts=("MASTER-BAD-?",))
    assert settings.expected_of("MASTER-1") == ("good", "MASTER-*")
    assert settings.expected_of("MASTER-BAD-1") == ("bad", "MASTER-BAD-?")
    assert settings.expected_of("g") is None
    assert settings.expected_of("P-1") is None
    assert settings.expected_of(None) is None
