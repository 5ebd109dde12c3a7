"""What is judged of a frame is the region of interest, in the colours that the whole frame has."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.inference.crop import MIN_BAYER_PX, cropped, judged_region

FIRST_TWO_ROWS = {
    PixelFormat.BayerGR8: ("GR", "BG"),
    PixelFormat.BayerRG8: ("RG", "GB"),
    PixelFormat.BayerGB8: ("GB", "RG"),
    PixelFormat.BayerBG8: ("BG", "GR"),
}
BAYER = sorted(FIRST_TWO_ROWS)
every_pattern = pytest.mark.parametrize("pattern", BAYER)


def mosaic(scene: NDArray[np.uint8], pattern: PixelFormat) -> NDArray[np.uint8]:
    """Return what a sensor behind this filter sees of an RGB scene."""
    seen = np.empty(scene.shape[:2], np.uint8)
    for y, row in enumerate(FIRST_TWO_ROWS[pattern]):
        for x, colour in enumerate(row):
            seen[y::2, x::2] = scene[y::2, x::2, "RGB".index(colour)]
    return seen


def whole(height: int, width: int) -> Region:
    return Region(x=0, y=0, width=width, height=height)


@every_pattern
def test_a_pattern_gives_the_colours_of_the_scene(pattern: PixelFormat) -> None:
    scene = np.full((12, 16, 3), (210, 120, 40), np.uint8)
    made = cropped(mosaic(scene, pattern), pattern, whole(12, 16))
    assert np.array_equal(made, scene)


@settings(deadline=None)
@given(st.data())
def test_a_region_of_a_pattern_is_what_converting_the_whole_frame_first_would_give(
    data: st.DataObject,
) -> None:
    pattern = data.draw(st.sampled_from(BAYER))
    height, width = (data.draw(st.integers(MIN_BAYER_PX, 70)) for _ in range(2))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = Region(
        x=x,
        y=y,
        width=data.draw(st.integers(1, width - x)),
        height=data.draw(st.integers(1, height - y)),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    frame = rng.integers(0, 256, (height, width), np.uint8)
    first = cropped(frame, pattern, whole(height, width))
    made = cropped(frame, pattern, region)
    assert np.array_equal(made, first[y : y + region.height, x : x + region.width])


def test_the_whole_of_a_pattern_is_what_opencv_makes_of_it() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    made = cropped(frame, PixelFormat.BayerRG8, whole(30, 40))
    assert np.array_equal(made, cv2.cvtColor(frame, cv2.COLOR_BayerRGGB2RGB))


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_a_region_of_a_gray_or_colour_frame_is_no_copy(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    pixel_format = PixelFormat.Mono8 if len(shape) == 2 else PixelFormat.RGB8
    made = cropped(frame, pixel_format, Region(x=3, y=5, width=20, height=10))
    assert made.shape[:2] == (10, 20)
    assert np.shares_memory(made, frame)


@every_pattern
@pytest.mark.parametrize("size", [(3, 40), (40, 2), (1, 1)])
def test_a_pattern_too_small_to_tell_colours_is_an_image_error(
    pattern: PixelFormat, size: tuple[int, int]
) -> None:
    with pytest.raises(ImageError, match="Bayer pattern"):
        cropped(np.zeros(size, np.uint8), pattern, whole(*size))


def test_without_a_region_of_interest_the_whole_image_is_judged() -> None:
    assert judged_region(None, 480, 640) == Region(x=0, y=0, width=640, height=480)


def test_a_region_of_interest_may_reach_the_edges_and_no_further() -> None:
    fits = Region(x=600, y=400, width=40, height=80)
    assert judged_region(fits, 480, 640) == fits
    for change in ({"width": 41}, {"height": 81}, {"x": 601}, {"y": 401}):
        with pytest.raises(ImageError, match="does not fit"):
            judged_region(fits.model_copy(update=change), 480, 640)
