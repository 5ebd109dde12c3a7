"""Bytes become pixels, or an error that names the file."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.errors import ImageError
from ssn_agent.frames.pixels import (
    Pixels,
    check_complete,
    decode_image,
    read_image,
    to_network_input,
)

SCENE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
LOSSLESS = [".png", ".bmp", ".tif"]
ALL = [*LOSSLESS, ".jpg", ".webp"]


def encode(suffix: str, image: Pixels = SCENE) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", ALL)
def test_a_whole_file_is_decoded_in_its_size(suffix: str) -> None:
    data = encode(suffix)
    check_complete(data, "whole")
    assert decode_image(data, "whole").shape == SCENE.shape


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_colours_come_out_as_red_green_blue(suffix: str) -> None:
    assert np.array_equal(decode_image(encode(suffix), "colours"), SCENE[:, :, ::-1])


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_gray_file_stays_gray(suffix: str) -> None:
    assert np.array_equal(decode_image(encode(suffix, SCENE[:, :, 0]), "gray"), SCENE[:, :, 0])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_file_of_16_bits_is_refused_not_scaled(suffix: str) -> None:
    data = cv2.imencode(suffix, SCENE[:, :, 0].astype(np.uint16) * 16)[1].tobytes()
    with pytest.raises(ImageError, match="deep: 16 bits a value, where 8 are taken"):
        decode_image(data, "deep")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_refused_and_named(suffix: str, share: float) -> None:
    data = encode(suffix)
    with pytest.raises(ImageError, match="half-copied"):
        decode_image(data[: int(len(data) * share)], "half-copied")


def test_a_jpeg_cut_after_its_thumbnail_is_refused_though_the_thumbnail_ends_well() -> None:
    thumbnail = encode(".jpg", SCENE[:8, :8])
    segment = b"Exif\0\0" + thumbnail
    whole = encode(".jpg")
    app1 = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    data = whole[:2] + app1 + whole[2:]
    assert decode_image(data, "whole").shape == SCENE.shape
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[:-100], "cut")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_bytes_after_the_end_of_an_image_do_no_harm(suffix: str) -> None:
    assert decode_image(encode(suffix) + b"appended by the camera", "tail").shape == SCENE.shape


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"GIF89a" + b"\0" * 100, b"no image at all"])
def test_what_is_no_image_is_refused_and_named(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"notes\.jpg: not an image"):
        decode_image(data, "notes.jpg")


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0"])
def test_a_bare_signature_is_refused(head: bytes) -> None:
    with pytest.raises(ImageError, match="bare"):
        decode_image(head, "bare")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.png: cannot be read"):
        read_image(tmp_path / "absent.png")


@pytest.mark.parametrize("shape", [(300, 200), (300, 200, 3), (20, 30), (64, 48, 3), (20, 400, 3)])
def test_any_image_becomes_the_networks_input(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    made = to_network_input(image, 64, 48)
    assert made.shape == (64, 48, 3)
    assert made.dtype == np.uint8
    assert made.flags.c_contiguous


@pytest.mark.parametrize("shape", [(300, 200), (300, 200, 3), (20, 30, 3), (64, 48), (64, 48, 3)])
def test_a_row_of_a_batch_is_filled_with_what_the_plain_way_gives(shape: tuple[int, ...]) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (shape[0], 500, *shape[2:]), np.uint8)
    image = wide[:, 100 : 100 + shape[1]]  # a region of a frame: its rows lie apart
    batch = np.full((3, 64, 48, 3), 7, np.uint8)
    row = batch[1]
    assert to_network_input(image, 64, 48, out=row) is row
    plain = to_network_input(np.ascontiguousarray(image), 64, 48)
    assert np.array_equal(row, plain)
    assert (batch[::2] == 7).all()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((60, 90), np.uint16),
        ((60, 90, 3), np.float32),
        ((60, 90, 4), np.uint8),
        ((60, 90, 1), np.uint8),
        ((60,), np.uint8),
        ((0, 90), np.uint8),
        ((60, 0, 3), np.uint8),
    ],
)
def test_pixels_of_another_depth_or_channel_count_are_refused(
    shape: tuple[int, ...], kind: type
) -> None:
    with pytest.raises(ImageError, match="8 bits"):
        to_network_input(np.zeros(shape, kind), 64, 48)


def vertical_line(column: int) -> Pixels:
    image = np.full((480, 640), 200, np.uint8)
    image[:, column] = 0
    return image


@pytest.mark.parametrize("size", [(256, 256), (192, 256), (100, 90), (300, 300), (400, 64)])
def test_a_thin_line_weighs_the_same_wherever_it_lies(size: tuple[int, int]) -> None:
    weights, expected = [], 200 * size[1] / 640
    for column in range(300, 340):
        made = to_network_input(vertical_line(column), *size)
        weights.append((200.0 - made[size[0] // 2, :, 0]).sum())
    assert 0.75 * expected <= min(weights)
    assert max(weights) <= 1.25 * expected


@pytest.mark.parametrize(
    "shape", [(128, 192), (77, 61, 3), (120, 90), (65, 300, 3), (480, 640), (1080, 1920, 3)]
)
def test_shrinking_answers_as_averages_over_areas_do(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    coarse = cv2.GaussianBlur(noise, (0, 0), shape[0] / 64).astype(np.float64)
    image = np.clip(128 + 50 * (coarse - coarse.mean()) / coarse.std(), 0, 255).astype(np.uint8)
    by_area = cv2.resize(image, (48, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    made = to_network_input(image, 64, 48).astype(np.float64)
    made = made[..., 0] if image.ndim == 2 else made
    assert np.sqrt(np.mean((made - by_area) ** 2)) < 0.15 * by_area.std()


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    checks = np.indices((128, 128)).sum(0).astype(np.uint8) % 2 * 255
    assert np.ptp(to_network_input(checks, 32, 32)) <= 1
