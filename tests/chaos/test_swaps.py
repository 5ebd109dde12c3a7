"""What a run of swaps counts as lost, late, or grown."""

from dataclasses import replace
from pathlib import Path

import pytest

from chaos.lines import LinesWriter
from chaos.report import Row
from chaos.swaps import Counts, Judged, row_of
from support.followed import Swap

COUNTS = Counts("try", 2, 1, 0.0, 1.0)
EPOCH = "0123456789abcdef0123456789abcdef"
SWAPS = [Swap("a", 10.0, 11.0), Swap("b", 20.0, 21.0)]
VERDICTS = [
    Judged((camera, EPOCH, number), None, digest, latency_ms, at)
    for camera in ("left", "right")
    for number, digest, latency_ms, at in ((1, "a", 40.0, 10.5), (2, "b", 10.0, 15.0))
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sender's lists of those parts."""
    offered, answers = (LinesWriter(tmp_path / f"{n}.jsonl") for n in ("offered", "answers"))
    for camera, _, number in (verdict.key for verdict in VERDICTS):
        offered.append(id=f"run-{camera}-{number}")
        said = {"id": f"run-{camera}-{number}", "status": "accepted"}
        answers.append(**said, epoch=EPOCH, sequence=number, at=0.0)
    return tmp_path


def missed(row: Row) -> list[str]:
    return [bar.text for bar in row.bars if not bar.held]


def test_parts_that_come_during_a_swap_are_told_apart_from_the_others(folder: Path) -> None:
    row = row_of(COUNTS, folder, VERDICTS, SWAPS, [100.0, 100.0, 104.0])
    assert missed(row) == []
    assert row.figures["latency_during_swaps_median_ms"] == 40.0
    assert row.figures["latency_without_median_ms"] == 10.0


def test_a_part_without_a_verdict_is_lost_and_its_number_is_missing(folder: Path) -> None:
    row = row_of(COUNTS, folder, VERDICTS[1:], SWAPS, [100.0, 100.0])
    assert (row.lost, missed(row)) == (1, ["lost <= 0"])
    pending = [replace(VERDICTS[0], latency_ms=None), *VERDICTS[1:]]
    assert row_of(COUNTS, folder, pending, SWAPS, [100.0, 100.0]).lost == 1


def test_invalid_ones_a_strange_bundle_and_growth_miss_their_bars(folder: Path) -> None:
    first, second, third, fourth = VERDICTS
    verdicts = [replace(first, reason="late", digest=None), second, replace(third, digest="c")]
    row = row_of(COUNTS, folder, [*verdicts, fourth], SWAPS, [90.0, 100.0, *[106.0] * 40])
    assert missed(row) == [
        "INVALID(late) <= 0",
        "INVALID of any reason <= 0",
        "only the two bundles judge",
    ]
    growing = [100.0] * 11 + [106.0] * 10
    assert missed(row_of(COUNTS, folder, VERDICTS, SWAPS, growing)) == ["memory's growth <= 5 %"]
