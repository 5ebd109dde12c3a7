"""Each cell teaches what its image's labels say of it, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.images import load_coverage, load_input
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import DataError
from ssn_trainer.fit.loop import draw_cells
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import make_recipe
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.model.heads import LeanHead, SuperSimpleNetHead

Make = Callable[..., Sample]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an image of 64 x 64, with a mask of the rectangle (top, left, bottom, right)."""

    def write(
        label: Literal["good", "bad"], rectangle: tuple[int, int, int, int] | None = None
    ) -> Sample:
        index = len(list(tmp_path.iterdir()))
        path, mask = tmp_path / f"{index}.png", None
        pixels = np.zeros((64, 64), np.uint8)
        if rectangle is not None:
            top, left, bottom, right = rectangle
            pixels[top:bottom, left:right] = 255
            mask = tmp_path / f"{index}_mask.png"
            assert cv2.imwrite(str(mask), pixels)
        assert cv2.imwrite(str(path), pixels)
        return Sample(path, path.name, label, None, mask, "g", None, str(index) * 64)

    return write


def test_good_images_and_masks_are_known_everywhere_and_bare_bad_ones_nowhere(make: Make) -> None:
    samples = [make("good"), make("bad", (16, 24, 32, 48)), make("bad")]
    truth = Truths(samples, (8, 8), 0.25).batch(samples, [0, 0, 0])
    assert truth.bad.tolist() == [False, True, True]
    assert truth.known[0].all()
    assert truth.known[1].all()
    assert not truth.known[2].any()
    assert not truth.anomalous[[0, 2]].any()
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 3:6] = True
    assert torch.equal(truth.anomalous[1], expected)


def test_a_cell_that_a_mask_hardly_touches_is_neither_normal_nor_anomalous(make: Make) -> None:
    sample = make("bad", (0, 0, 8, 17))  # two whole cells and an eighth of the third
    truth = Truths([sample], (8, 8), 0.25).batch([sample], [0])
    assert truth.anomalous[0, 0].tolist() == [True, True, *[False] * 6]
    assert truth.known[0, 0].tolist() == [True, True, False, *[True] * 5]
    touched = Truths([sample], (8, 8), 0.0).batch([sample], [0])
    assert touched.anomalous[0, 0].tolist() == [True, True, True, *[False] * 5]
    assert touched.known.all()


def test_a_defect_too_fine_for_any_cell_marks_the_cells_it_covers_most(make: Make) -> None:
    sample = make("bad", (3, 4, 4, 30))  # one pixel high: an eighth of a cell at most
    truth = Truths([sample], (8, 8), 0.25).batch([sample], [0])
    assert truth.anomalous[0, 0].tolist() == [False, True, True, *[False] * 5]


@pytest.mark.parametrize("flip", range(4))
def test_a_mask_turns_with_its_image(make: Make, flip: int) -> None:
    sample = make("bad", (8, 0, 24, 8))
    image = load_input(sample, 64, 64)[:, :, 0]  # drawn where its mask is
    mirrored = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]][flip]
    cells = mirrored.reshape(8, 8, 8, 8).mean(axis=(1, 3)) > 128
    truth = Truths([sample], (8, 8), 0.25).batch([sample], [flip])
    assert np.array_equal(truth.anomalous[0].numpy(), cells)


@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (100, 3)])
def test_coverage_keeps_the_masks_area_on_any_grid(make: Make, grid: tuple[int, int]) -> None:
    sample = make("bad", (5, 3, 50, 61))
    coverage = load_coverage(sample, *grid)
    assert coverage.shape == grid
    assert coverage.mean() == pytest.approx(45 * 58 / 64**2, rel=1e-5)
    assert coverage.max() <= 1 + 1e-5


def test_a_mask_that_marks_nothing_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="marks no pixel"):
        Truths([make("bad", (0, 0, 0, 0))], (8, 8), 0.25)


def batch_of(rows: list[tuple[bool, list[int], list[int]]]) -> Truth:
    """Images of 8 x 8 cells from (bad, anomalous cells of the first row, known rows)."""
    anomalous = torch.zeros(len(rows), 8, 8, dtype=torch.bool)
    known = torch.zeros(len(rows), 8, 8, dtype=torch.bool)
    for index, (_, cells, known_rows) in enumerate(rows):
        anomalous[index, 0, cells] = True
        known[index, known_rows] = True
    return Truth(torch.tensor([bad for bad, *_ in rows]), anomalous, known, anomalous.float())


EVERY_ROW = list(range(8))


def test_every_cell_enters_the_map_losses_by_what_is_known_of_it(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    scored: list[Tensor] = []

    def map_spy(values: Tensor, target: Tensor, known: Tensor) -> Tensor:
        seen.append((target.squeeze(1), known.squeeze(1)))
        return values.sum() * 0

    def focal_spy(
        values: Tensor, target: Tensor, counts: Tensor | None = None, gamma: float = 4
    ) -> Tensor:
        assert gamma
        if counts is None:
            scored.append(target)
        return values.sum() * 0

    monkeypatch.setattr("ssn_trainer.fit.loss.truncated_l1", map_spy)
    monkeypatch.setattr("ssn_trainer.fit.loss.focal", focal_spy)
    # Noise everywhere, but where it may not be.
    monkeypatch.setattr(
        "ssn_trainer.fit.loss.noise_masks", lambda n, h, w, *_: torch.ones(n, h, w).bool()
    )
    truth = batch_of([(False, [], EVERY_ROW), (True, [2, 3], EVERY_ROW), (True, [], [])])
    recipe = make_recipe("published", Head.SUPERSIMPLENET, Regime.MIXED, None, None)
    torch.manual_seed(0)
    head = SuperSimpleNetHead(24, 16, 8, "jims")
    features = torch.randn(3, 24, 8, 8)
    batch_loss(head, features, truth, recipe, generator, supervised=True)
    (target, known), (label,) = seen[0], scored
    assert torch.equal(target[:3], truth.anomalous)  # first clean
    assert torch.equal(known[:3], truth.known)
    assert target[3:].all()  # then with noise, the mask's defects beside it
    assert known[3:].all()
    assert label.tolist() == [False, True, True, True, True, True]


def test_noise_never_lies_over_a_defect_of_a_mask(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []

    def spy(masks: Tensor, channels: int, *_: object) -> Tensor:
        drawn.append(masks.clone())
        return torch.zeros(len(masks), channels, 8, 8)

    monkeypatch.setattr("ssn_trainer.fit.loss.draw_noise", spy)
    monkeypatch.setattr(
        "ssn_trainer.fit.loss.noise_masks", lambda n, h, w, *_: torch.ones(n, h, w).bool()
    )
    truth = batch_of([(True, [2, 3], EVERY_ROW), (True, [], [])])
    recipe = make_recipe("published", Head.SUPERSIMPLENET, Regime.MIXED, None, None)
    head = SuperSimpleNetHead(24, 16, 8, "jims")
    batch_loss(head, torch.randn(2, 24, 8, 8), truth, recipe, generator, supervised=True)
    assert torch.equal(drawn[0], ~truth.anomalous)


def test_drawn_cells_keep_their_features_and_what_is_known_of_them(
    generator: torch.Generator,
) -> None:
    truth = batch_of([(False, [], EVERY_ROW), (True, [2, 3], [0, 1])])
    # Channel 0 says which cell it is, channel 1 whether it is known, channel 2 its coverage.
    index = torch.arange(128.0).reshape(2, 8, 8)  # [2 * 8 * 8] -> [2, 8, 8]
    features = torch.stack([index, truth.known.float(), truth.coverage], dim=1)
    cells, drawn = draw_cells(features, truth, 500, generator)
    assert cells.shape == (1, 3, 128, 1)  # no more than there are
    assert len(set(cells[0, 0].flatten().tolist())) > 64  # from both images
    assert torch.equal(cells[0, 1].bool(), drawn.known[0])
    assert torch.equal(cells[0, 2], drawn.coverage[0])
    assert torch.equal(drawn.anomalous[0], drawn.coverage[0] > 0)
    assert drawn.anomalous.any()


def test_drawn_cells_are_learned_clean_and_all_under_noise(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []

    def spy(masks: Tensor, channels: int, *_: object) -> Tensor:
        drawn.append(masks.clone())
        return torch.zeros(len(masks), channels, 100, 1)

    monkeypatch.setattr("ssn_trainer.fit.loss.draw_noise", spy)
    recipe = make_recipe("default", None, Regime.UNSUPERVISED, None, None)
    head = LeanHead(24, 16, 0.02, labels=False)
    truth = batch_of([(False, [], EVERY_ROW)] * 2)
    cells = draw_cells(torch.randn(2, 24, 8, 8), truth, 100, generator)
    batch_loss(head, *cells, recipe, generator, supervised=False)
    assert drawn[0].shape == (1, 100, 1)
    assert drawn[0].all()


def test_what_lies_in_unknown_cells_changes_no_map_loss(generator: torch.Generator) -> None:
    recipe = make_recipe("default", Head.SUPERSIMPLENET, Regime.MIXED, None, None)
    torch.manual_seed(0)
    head = SuperSimpleNetHead(24, 16, 8, "jims")
    features = torch.randn(2, 24, 8, 8, requires_grad=True)
    truth = batch_of([(True, [2], [0, 1]), (True, [], [])])
    zero = torch.zeros(2)
    head.classify = lambda *_: zero  # type: ignore[method-assign]  # the map's losses alone
    head.eval()  # no batch statistics between the cells
    loss = batch_loss(head, features, truth, recipe, generator, supervised=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert features.grad is not None
    reached = features.grad.abs().sum(dim=1) > 0  # [N, C, h, w] -> [N, h, w]
    assert torch.equal(reached, truth.known)
