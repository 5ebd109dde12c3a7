"""The one scorer: a bundle and an image to scores, or an error that keeps a bad model away."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.errors import BundleError, EngineError, ImageError
from ssn_agent.inference.engines.ort import OrtCpuEngine
from ssn_agent.inference.scorer import Scorer
from support.bundles import SIZE, brightness_model, files, manifest, write_brightness_bundle

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    path = tmp_path_factory.mktemp("scorer") / "brightness.ssn"
    return Scorer(Bundle.open(write_brightness_bundle(path)), threads=1)


def packed(path: Path, changed: dict[str, bytes], **manifest_changes: Any) -> Scorer:
    write_bundle(path, manifest(**manifest_changes), {**files(), **changed})
    return Scorer(Bundle.open(path), threads=1)


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, SIZE, 3), (7, 91), (333, 5, 3), (1, 1)])
def test_gray_and_colour_images_of_any_size_are_scored(
    scorer: Scorer, shape: tuple[int, ...]
) -> None:
    scored = scorer.score(np.full(shape, 153, np.uint8))
    assert scored.map.shape == (SIZE, SIZE)
    assert scored.raw == pytest.approx(0.6, abs=1e-6)
    assert scored.score == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((SIZE, SIZE), np.uint16),
        ((SIZE, SIZE, 3), np.float32),
        ((SIZE, SIZE, 4), np.uint8),
        ((SIZE, SIZE, 1), np.uint8),
        ((1, SIZE, SIZE, 3), np.uint8),
        ((0, SIZE), np.uint8),
    ],
)
def test_an_image_of_another_depth_or_channel_count_is_refused(
    scorer: Scorer, shape: tuple[int, ...], kind: type[Any]
) -> None:
    with pytest.raises(ImageError, match="gray and RGB of 8 bits a value are taken"):
        scorer.score(np.zeros(shape, kind))


def test_the_red_channel_comes_first(scorer: Scorer) -> None:
    only_red = np.zeros((SIZE, SIZE, 3), np.uint8)
    only_red[:, :, 0] = 255
    model = brightness_model()
    engine = OrtCpuEngine(model, SIZE, SIZE, 1)
    assert scorer.score(only_red).raw == 1.0
    assert engine.run(only_red[np.newaxis])[0][0] == 1.0


def test_an_image_scores_the_same_alone_and_in_a_batch(scorer: Scorer) -> None:
    images = RNG.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    raw, maps = scorer.score_inputs(images)
    for i, image in enumerate(images):
        alone = scorer.score(image)
        assert alone.raw == raw[i]
        assert np.array_equal(alone.map, maps[i])


def test_a_bundle_that_reproduces_its_vectors_is_served(scorer: Scorer) -> None:
    assert scorer.check_vectors() <= 1e-6


@pytest.mark.parametrize("value", [99 / 255, np.nan, np.inf])
def test_a_bundle_whose_expected_map_differs_is_not_served(tmp_path: Path, value: float) -> None:
    expected: NDArray[np.float32] = np.full((SIZE, SIZE), 100 / 255, "<f4")
    expected[3, 4] = value
    scorer = packed(tmp_path / "b.ssn", {"vectors/0.f32": expected.tobytes()})
    with pytest.raises(EngineError, match=r"does not reproduce vectors/0\.png"):
        scorer.check_vectors()


def test_a_bundle_whose_expected_score_differs_is_not_served(tmp_path: Path) -> None:
    vectors = [{"image": "vectors/0.png", "score": 0.4, "map": "vectors/0.f32"}]
    scorer = packed(tmp_path / "b.ssn", {}, vectors=vectors)
    with pytest.raises(EngineError, match=r"score differs by 0\.0078"):
        scorer.check_vectors()


@pytest.mark.parametrize(
    ("entry", "data"), [("vectors/0.f32", b"\0" * 8), ("vectors/0.png", b"no image")]
)
def test_a_vector_that_cannot_be_read_is_the_bundle_s_fault(
    tmp_path: Path, entry: str, data: bytes
) -> None:
    scorer = packed(tmp_path / "b.ssn", {entry: data})
    with pytest.raises(BundleError, match=entry):
        scorer.check_vectors()
