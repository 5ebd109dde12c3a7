"""Latent anomalies: half of the masks empty, noise in the others' cells alone."""

import torch

from ssn_trainer.model.noise import draw_noise, noise_masks, perlin


def test_half_of_the_masks_are_empty_and_the_others_lie_in_one_piece_or_more(
    generator: torch.Generator,
) -> None:
    masks = noise_masks(64, 32, 32, 0.2, generator)
    filled = masks.flatten(1).any(dim=1).sum().item()
    assert 24 <= filled <= 32  # of the other half a few may stay below the threshold
    assert not masks.flatten(1).all(dim=1).any()


def test_a_higher_threshold_gives_smaller_anomalies() -> None:
    sizes = [
        noise_masks(64, 32, 32, threshold, torch.Generator().manual_seed(0)).float().mean().item()
        for threshold in (0.2, 0.6)
    ]
    assert sizes[1] < sizes[0] / 2


def test_perlin_noise_is_smooth_where_the_lattice_is_coarse(generator: torch.Generator) -> None:
    coarse, fine = perlin(32, 32, 2, 2, generator), perlin(32, 32, 16, 16, generator)
    assert coarse.diff(dim=0).abs().mean() < fine.diff(dim=0).abs().mean() / 3
    assert coarse.abs().max() <= 1.1


def test_grids_that_are_no_squares_and_tiny_grids_get_masks(generator: torch.Generator) -> None:
    assert noise_masks(4, 3, 17, 0.2, generator).shape == (4, 3, 17)


def test_noise_lies_inside_the_masks_with_the_wanted_strength(generator: torch.Generator) -> None:
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[1, 4:12, 4:12] = True
    noise = draw_noise(masks, 64, 0.25, generator)
    assert noise.shape == (3, 64, 16, 16)
    assert not noise[[0, 2]].any()
    assert not noise[1][:, ~masks[1]].any()
    inside = noise[1][:, masks[1]]
    assert abs(inside.std().item() - 0.25) < 0.02
    assert abs(inside.mean().item()) < 0.02
