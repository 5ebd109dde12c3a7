"""What a verdict lists as defects lies where the defect is, in pixels of the camera's image."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ssn_agent.capture.settings import Region
from ssn_agent.frames.layout import MAX_DEFECTS, Defect
from ssn_agent.inference.calibration import calibrate
from ssn_agent.inference.regions import encode_heatmap, find_defects
from ssn_contract.manifest import Calibration

CALIBRATION = Calibration(threshold=0.5, slope=10.0)
WHOLE = Region(x=0, y=0, width=32, height=32)

maps = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.floats(0, 1, width=32),
)
regions = st.builds(
    Region,
    x=st.integers(0, 500),
    y=st.integers(0, 500),
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
)


def flat(value: float = 0.1, size: int = 32) -> NDArray[np.float32]:
    return np.full((size, size), value, np.float32)


def peak_of(value: float) -> float:
    return float(calibrate(float(np.float32(value)), CALIBRATION))


def test_a_region_is_listed_with_its_box_area_and_peak() -> None:
    raw = flat()
    raw[4:10, 20:24] = 0.7
    raw[6, 21] = 0.9
    defects, count = find_defects(raw, CALIBRATION, WHOLE, 0)
    assert count == 1
    assert defects == (Defect(20, 4, 4, 6, 24, 21, 6, peak_of(0.9)),)


def test_boxes_are_in_pixels_of_the_source_image_also_within_a_region_of_interest() -> None:
    raw = flat()
    raw[8:16, 4:6] = 0.8
    region = Region(x=100, y=50, width=320, height=64)  # 10 x 2 source pixels to one of the map
    (defect,), _ = find_defects(raw, CALIBRATION, region, 0)
    assert (defect.x, defect.y, defect.width, defect.height) == (140, 66, 20, 16)
    assert defect.area_px == 16 * 20
    assert (defect.peak_x, defect.peak_y) == (145, 67)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    raw = flat()
    raw[3, 3] = raw[4, 4] = 0.6
    (defect,), count = find_defects(raw, CALIBRATION, WHOLE, 0)
    assert (count, defect.area_px, defect.width, defect.height) == (1, 2, 2, 2)


def test_a_region_whose_box_holds_a_higher_neighbour_keeps_its_own_peak() -> None:
    raw = flat()
    raw[2:12, 2] = raw[11, 2:12] = 0.6  # an L, with a brighter spot in its box
    raw[4:6, 7:9] = 0.95
    defects, _ = find_defects(raw, CALIBRATION, WHOLE, 0)
    assert [defect.peak for defect in defects] == [peak_of(0.6), peak_of(0.95)]


def test_a_pixel_exactly_at_the_threshold_counts() -> None:
    raw = flat()
    raw[5, 5] = 0.5
    raw[20, 20] = np.nextafter(np.float32(0.5), np.float32(0))
    (defect,), count = find_defects(raw, CALIBRATION, WHOLE, 0)
    assert (count, defect.x, defect.y, defect.peak) == (1, 5, 5, 0.5)


def test_regions_smaller_than_the_smallest_that_counts_are_left_out() -> None:
    raw = flat()
    raw[0, 0] = 0.9
    raw[10:13, 10:13] = 0.6
    defects, count = find_defects(raw, CALIBRATION, WHOLE, 9)
    assert (count, [defect.area_px for defect in defects]) == (1, [9])


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_where_no_region_passes_the_peak_alone_stands_for_the_defect(value: float) -> None:
    raw = flat()
    raw[7, 9] = value
    raw[3, 2] = 0.3
    defects, count = find_defects(raw, CALIBRATION, WHOLE, 1000)
    expected = (9, 7, peak_of(0.9)) if value == 0.9 else (2, 3, peak_of(0.3))
    assert defects == (Defect(0, 0, 0, 0, 0, *expected),)
    assert count == 1


def test_of_more_regions_than_a_record_holds_the_largest_are_kept_and_all_are_counted() -> None:
    raw = flat(size=64)
    for i in range(20):
        raw[3 * i, : i + 1] = 0.8
    defects, count = find_defects(raw, CALIBRATION, Region(x=0, y=0, width=64, height=64), 0)
    assert count == 20
    assert [defect.width for defect in defects] == list(range(20, 20 - MAX_DEFECTS, -1))


@settings(deadline=None)
@given(maps, regions, st.integers(0, 50))
@example(np.full((7, 7), 0.9, np.float32), Region(x=0, y=0, width=29, height=29), 0)
def test_every_defect_lies_inside_the_judged_region_whatever_the_scale(
    raw: NDArray[np.float32], region: Region, min_area_px: int
) -> None:
    defects, count = find_defects(raw, CALIBRATION, region, min_area_px)
    assert 1 <= len(defects) <= min(count, MAX_DEFECTS)
    for d in defects:
        assert region.x <= d.peak_x < region.x + region.width
        assert region.y <= d.peak_y < region.y + region.height
        if d.area_px:
            assert region.x <= d.x <= d.peak_x < d.x + d.width <= region.x + region.width
            assert region.y <= d.y <= d.peak_y < d.y + d.height <= region.y + region.height
            assert d.area_px >= min_area_px
            assert d.peak >= 0.5
        else:
            assert count == 1


def decoded(data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image.astype(np.uint8)


@settings(deadline=None)
@given(maps, st.floats(0.01, 0.99), st.floats(1e-3, 1e4))
def test_a_heatmap_reaches_128_exactly_where_the_map_reaches_its_threshold(
    raw: NDArray[np.float32], threshold: float, slope: float
) -> None:
    raw.flat[0] = np.float32(threshold)
    raw.flat[-1] = np.nextafter(np.float32(threshold), np.float32(0))
    calibration = Calibration(threshold=threshold, slope=slope)
    gray = decoded(encode_heatmap(raw, calibration))
    assert gray.dtype == np.uint8
    assert np.array_equal(gray >= 128, raw >= threshold)


def test_a_heatmap_at_the_threshold_is_128_and_has_the_size_of_the_map() -> None:
    gray = decoded(encode_heatmap(np.full((3, 5), 0.5, np.float32), CALIBRATION))
    assert gray.shape == (3, 5)
    assert (gray == 128).all()
