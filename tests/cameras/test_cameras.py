"""The harness of `make soak-cameras` sees what it is there to see, and a try of it runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from cameras.checks import (
    frame_ids_go_on,
    frames_are_judged_once,
    none_is_invented,
    triggers_have_their_frames,
)
from cameras.counts import TRY
from cameras.drivers import DRIVERS
from cameras.report import page
from cameras.rig import Asked, Seen
from cameras.rows import ROWS
from chaos.report import Bar, Row

MS = 1_000_000


def seen(number: int, **changes: object) -> Seen:
    """Return a record that was triggered at `number` seconds, exposed and closed soon after."""
    at_ms = 1000 * number
    made = Seen(
        number,
        f"p{number}",
        f"p{number}",
        at_ms * MS,
        (at_ms + 50) * MS,
        None,
        content=at_ms + 10,
        frame_id=number,
        captured_ns=(at_ms + 10) * MS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # any field


def asked(number: int) -> Asked:
    return Asked(f"p{number}", 1000 * number * MS, "accepted")


def missed(bars: list[Bar]) -> list[str]:
    return [f"{bar.text}: {bar.measured}" for bar in bars if not bar.held]


def test_where_all_is_well_no_bar_is_missed() -> None:
    records = [seen(number) for number in range(1, 6)]
    assert not missed(frames_are_judged_once(records))
    assert not missed([none_is_invented(records, 0, 0.0)])
    assert not missed(triggers_have_their_frames(records, map(asked, range(1, 6)), 0.0))
    assert not missed(frame_ids_go_on(records))


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([seen(1), seen(3)], "0 gaps in the numbers: 1"),
        ([seen(1), seen(1, content=None)], "0 numbers with two records: 1"),
        ([seen(1), seen(2, content=1010)], "0 exposures that were judged twice: 1"),
        ([seen(1), seen(2, content=900)], "0 exposures out of their order: 1"),
    ],
)
def test_a_frame_that_is_judged_twice_or_out_of_order_is_seen(
    records: list[Seen], problem: str
) -> None:
    assert problem in missed(frames_are_judged_once(records))


def test_a_frame_that_no_camera_took_is_seen() -> None:
    early, late = seen(1), seen(2, content=2051)
    assert missed([none_is_invented([early, late], 1011 * MS, 0.0)]) == [
        "0 frames that no camera took: 2"
    ]
    assert not missed([none_is_invented([early, late], 1011 * MS, 1.0)])


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([seen(1)], "0 announced parts without exactly one record: 1"),
        (
            [seen(1), seen(2, trigger_id="p1")],
            "0 announced parts without exactly one record: 2",
        ),
        ([seen(2, sequence=1), seen(1, sequence=2)], "0 records out of the order of the parts: 1"),
        ([seen(1), seen(2, part_id="p1")], "0 records that name another part: 1"),
        ([seen(1), seen(2, content=1999)], "0 frames exposed before their trigger: 1"),
    ],
)
def test_a_part_with_another_ones_frame_or_record_is_seen(
    records: list[Seen], problem: str
) -> None:
    assert problem in missed(triggers_have_their_frames(records, [asked(1), asked(2)], 0.0))


@pytest.mark.parametrize("slack_ms", [None, 40.0])
def test_a_pairing_that_slipped_by_one_part_is_seen_by_when_frames_were_taken(
    slack_ms: float | None,
) -> None:
    records = [
        seen(number, content=None, captured_ns=(1000 * (number - 1) + 10) * MS)
        for number in range(1, 6)
    ]
    assert missed(triggers_have_their_frames(records, map(asked, range(1, 6)), slack_ms)) == [
        "0 frames taken before their part was announced: 5"
    ]
    lost = seen(1, reason="lost", captured_ns=0)
    assert not missed(triggers_have_their_frames([lost], [asked(1)], slack_ms))


@pytest.mark.parametrize(
    ("ids", "breaks"),
    [([7, 8, 9], 0), ([65534, 65535, 1], 0), ([7, 9, 10], 1), ([7, 7, 8], 1), ([7, 8, 1], 1)],
)
def test_a_frame_that_does_not_follow_the_one_before_is_seen(ids: list[int], breaks: int) -> None:
    records = [seen(number, frame_id=frame_id) for number, frame_id in enumerate(ids, 1)]
    lost = seen(9, reason="overrun", frame_id=None)
    (bar,) = frame_ids_go_on([*records, lost])
    assert bar.measured == str(breaks)
    assert bar.held == (breaks == 0)
    assert not frame_ids_go_on([seen(1, frame_id=None)])


def test_a_part_that_was_not_taken_wants_no_record() -> None:
    refused = Asked("p2", 2, "refused")
    assert not missed(triggers_have_their_frames([seen(1)], [asked(1), refused], 0.0))


def test_every_driver_names_rows_that_there_are() -> None:
    for driver in DRIVERS.values():
        assert driver.rows <= set(ROWS), driver.name
        assert ("lossy" in driver.rows) == (driver.make_lossy is not None)
        assert ("failing" in driver.rows) == (driver.fail is not None)


@pytest.mark.parametrize(("name", "kind"), [("folder", "triggers"), ("zeromq", "killed")])
def test_a_try_of_the_harness_finds_a_driver_well(tmp_path: Path, name: str, kind: str) -> None:
    row = ROWS[kind](DRIVERS[name], TRY, tmp_path)
    assert not missed(row.bars)
    assert row.triggers
    assert name in page([row], "a machine")


def test_the_page_says_what_was_missed_and_what_a_frame_costs() -> None:
    bar = Bar(text="0 frames without a slot", measured="3", held=False)
    figures = {"capture_cpu_ms_per_frame": 1.234}
    row = Row(name="x", fault="x: none", counts="try", figures=figures, bars=[bar])
    assert "| 1.23 | **misses 1** |" in page([row], "a machine")
