"""The drawn production line: repeatable, truthful about its defects, never the same part twice."""

import cv2
import numpy as np
import pytest

from ssn_agent.demo.line import DEFECTS, ProductionLine, draw_part
from ssn_agent.errors import UsageError

NOISE = 2
"""Gray levels that rounding and shot noise may differ by where nothing else was drawn."""


@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_the_same_seed_draws_the_same_part(defect: str | None) -> None:
    first, second = draw_part(7, defect), draw_part(7, defect)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert first.defect == defect


def test_a_part_is_a_gray_picture_of_the_size_asked_for() -> None:
    part = draw_part(3, "stain", size=(240, 320))
    assert part.image.dtype == np.uint8
    assert part.image.shape == (240, 320)
    assert part.mask.dtype == np.bool_
    assert part.mask.shape == (240, 320)


def test_no_two_parts_of_a_line_look_the_same() -> None:
    line = ProductionLine(seed=5)
    images = [line.part(n).image for n in range(24)]
    assert len({image.tobytes() for image in images}) == 24


def test_a_part_does_not_depend_on_which_were_drawn_before() -> None:
    line = ProductionLine(seed=5)
    for n in range(5):
        line.part(n)
    assert np.array_equal(line.part(2).image, ProductionLine(seed=5).part(2).image)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_the_part_where_its_mask_says_and_nowhere_else(
    defect: str, seed: int
) -> None:
    bad, good = draw_part(seed, defect), draw_part(seed, None)
    change = np.abs(bad.image.astype(np.int16) - good.image)
    # Slopes fade out past the mask, and the lens blurs them: 10 pixels either way.
    near = cv2.dilate(bad.mask.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert change[~near].max() <= NOISE
    assert change[bad.mask].max() >= 15, "the defect is too faint to be seen"


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_small_beside_the_part_but_large_enough_to_be_seen(defect: str) -> None:
    areas = [int(draw_part(seed, defect).mask.sum()) for seed in range(12)]
    assert min(areas) >= 30
    assert max(areas) <= 4000, "over 4 % of the part's face"
    assert len(set(areas)) > 1


def test_a_good_part_has_an_empty_mask() -> None:
    assert not draw_part(4, None).mask.any()


def test_every_kind_of_defect_occurs_at_about_the_rate_asked_for() -> None:
    line = ProductionLine(seed=11, defect_rate=0.5, size=(120, 160))
    drawn = [line.part(n).defect for n in range(200)]
    assert set(drawn) == {None, *DEFECTS}
    assert 70 <= sum(defect is not None for defect in drawn) <= 130


@pytest.mark.parametrize(("rate", "bad"), [(0.0, 0), (1.0, 30)])
def test_a_line_without_defects_and_one_of_nothing_else_can_be_had(rate: float, bad: int) -> None:
    line = ProductionLine(seed=2, defect_rate=rate, size=(120, 160))
    assert sum(line.part(n).defect is not None for n in range(30)) == bad


def test_what_is_served_is_never_what_was_trained_on() -> None:
    seeds = (0, 1, 2**64 - 1)
    trained = [ProductionLine(seed, namespace="train") for seed in seeds]
    served = [ProductionLine(seed, namespace="serve") for seed in seeds]
    numbers = (0, 1, 2**32 - 1)
    pictures = [
        {line.part(n).image.tobytes() for line in lines for n in numbers}
        for lines in (trained, served)
    ]
    assert len(pictures[0]) == len(pictures[1]) == len(seeds) * len(numbers)
    assert not pictures[0] & pictures[1]


def test_what_cannot_be_drawn_is_refused_with_what_can() -> None:
    with pytest.raises(UsageError, match="scratch"):
        draw_part(0, "rust")
    with pytest.raises(UsageError, match="160 x 120"):
        draw_part(0, None, size=(20, 20))
    with pytest.raises(UsageError, match="defect rate"):
        ProductionLine(0, defect_rate=1.5)
    with pytest.raises(UsageError, match="line seed"):
        ProductionLine(-1)
    with pytest.raises(UsageError, match="part number"):
        ProductionLine(0).part(2**32)
