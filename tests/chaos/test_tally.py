"""What the witness calls lost, duplicated, redelivered, and a gap."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chaos.tally import Answer, Evidence, Judged, Offered, Tally, recovered_at, tally, windows

EPOCH = "00112233445566778899aabbccddeeff"


def key(number: int) -> tuple[str, str, int]:
    return ("left", EPOCH, number)


def part(number: int, at: float | None = None) -> Offered:
    return Offered(f"p{number}", "left", number % 4 == 0, number if at is None else at)


def verdict(number: int, **changes: object) -> Judged:
    said = ("FAIL" if number % 4 == 0 else "PASS", None, 0.25)
    return replace(Judged(key(number), f"p{number}", *said, at=number + 0.5), **changes)  # type: ignore[arg-type]  # any field


def all_well(count: int = 8) -> Evidence:
    numbers = range(1, count + 1)
    return Evidence(
        [part(n) for n in numbers],
        [Answer(f"p{n}", key(n), n + 0.1) for n in numbers],
        [verdict(n) for n in numbers],
        [verdict(n, at=0.0, published=True) for n in numbers],
        [key(n) for n in numbers],
    )


def faults(found: Tally) -> dict[str, int]:
    names = ("lost", "duplicated", "redelivered", "gaps", "wrong", "renumbered")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_where_all_is_well_everything_is_counted_and_nothing_is_wrong() -> None:
    found = tally(all_well())
    counts = (found.offered, found.triggers, found.verdicts, found.published, found.received)
    assert counts == (8, 8, 8, 8, 8)
    assert faults(found) == {}


def test_a_part_without_an_answer_within_ten_seconds_is_lost() -> None:
    evidence = all_well()
    evidence.answers[2] = replace(evidence.answers[2], at=part(3).at + 10.1)
    del evidence.answers[5]
    found = tally(evidence)
    assert faults(found) == {"lost": 2}
    assert found.lost_parts == ("p3", "p6")


def test_a_part_that_was_not_taken_is_lost() -> None:
    evidence = all_well()
    evidence.answers[2] = Answer("p3", None, 3.1)
    assert faults(tally(evidence)) == {"lost": 1}


def test_a_part_is_lost_without_its_row_or_its_message_and_with_two_rows() -> None:
    evidence = all_well()
    del evidence.ledger[1]
    assert faults(tally(evidence)) == {"lost": 1}
    evidence = all_well()
    del evidence.received[1]
    assert faults(tally(evidence)) == {"lost": 1}
    evidence = all_well()
    evidence.ledger.append(evidence.ledger[1])
    assert faults(tally(evidence)) == {"lost": 1}


def test_the_same_verdict_again_is_redelivered_and_another_one_is_duplicated() -> None:
    evidence = all_well()
    evidence.received += [verdict(2), verdict(2, durable=False), verdict(3)]
    assert faults(tally(evidence)) == {"redelivered": 3}
    evidence = all_well()
    evidence.received.append(verdict(2, verdict="INVALID", reason="late", score=None))
    assert faults(tally(evidence)) == {"redelivered": 1, "duplicated": 1}


def test_a_ledger_that_says_something_else_than_the_broker_did_is_duplicated() -> None:
    evidence = all_well()
    evidence.ledger[1] = verdict(2, verdict="INVALID", reason="late", score=None)
    assert faults(tally(evidence)) == {"duplicated": 1}


def test_every_number_that_the_ledger_lacks_is_a_gap() -> None:
    evidence = all_well()
    evidence.triggers = [key(n) for n in (3, 4, 8)]
    assert faults(tally(evidence)) == {"gaps": 5}


def test_a_verdict_against_the_part_or_of_another_part_is_wrong_and_an_invalid_one_is_not() -> None:
    evidence = all_well()
    evidence.received[1] = evidence.ledger[1] = verdict(2, verdict="FAIL")
    assert faults(tally(evidence)) == {"wrong": 2}
    evidence = all_well()
    evidence.received[1] = evidence.ledger[1] = verdict(2, part_id="another")
    assert faults(tally(evidence)) == {"wrong": 2}
    evidence = all_well()
    late = {"verdict": "INVALID", "reason": "late", "score": None}
    evidence.received[1] = evidence.ledger[1] = verdict(2, **late)
    found = tally(evidence)
    assert faults(found) == {}
    assert found.invalid == {"late": 1}


def test_an_id_that_was_answered_with_two_numbers_is_renumbered() -> None:
    evidence = all_well()
    evidence.answers.append(Answer("p2", key(7), 9.0))
    assert faults(tally(evidence)) == {"renumbered": 1}


@given(st.lists(st.floats(0, 9), max_size=4), st.sets(st.integers(1, 8)))
def test_the_counts_of_windows_add_up_to_those_of_the_whole(
    starts: list[float], lacking: set[int]
) -> None:
    evidence = all_well()
    evidence.ledger = [row for row in evidence.ledger if row.key[2] not in lacking]
    named = [(0.0, "first"), *((at, f"{i % 2}") for i, at in enumerate(starts))]
    parts = windows(evidence.offered, named)
    found = [tally(evidence, chosen) for chosen in parts.values()]
    whole = tally(evidence)
    for name in ("offered", "triggers", "verdicts", "received", "lost"):
        assert sum(getattr(some, name) for some in found) == getattr(whole, name)
    assert whole.lost == len(lacking)


def test_recovery_is_the_first_committed_judgement_of_a_part_offered_after_the_fault() -> None:
    evidence = all_well()
    evidence.received[4] = verdict(5, verdict="INVALID", reason="late")
    evidence.received[5] = verdict(6, durable=False)
    assert recovered_at(evidence, 4.2) == verdict(7).at
    assert recovered_at(evidence, 4.2, "right") is None
    assert recovered_at(evidence, 8.5) is None
