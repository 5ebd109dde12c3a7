"""What is minimised, by head and by what is known of each image."""

import torch
from torch import Tensor

from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.fit.truth import Truth
from ssn_trainer.model.heads import AnyHead, GapCamHead, LeanHead
from ssn_trainer.model.losses import coverage_loss, focal, truncated_l1
from ssn_trainer.model.noise import NoiseGenerator, against, draw_noise, noise_masks

_NOISE_PENALTY = 10.0
"""Weight of the L2 penalty on learned noise, as in SuperSimpleNet-Evolved."""


def batch_loss(
    head: AnyHead,
    features: Tensor,
    truth: Truth,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    supervised: bool,
    learned: NoiseGenerator | None = None,
    adversarial: bool = False,
) -> Tensor:
    """Loss of one batch: `features` [N, C, h, w] and what is known of them, on the CPU.

    Every image adds the losses that what is known of it allows (JIMS 2025, mixed supervision):

    - the map's, truncated L1 and focal (ICPR 2024, section 3.5), or cross-entropy against the
      coverage, over the cells that are known: all of a good image, all of a bad one with a mask, of
      a bad one without a mask those under noise;
    - the score's, focal over the image's label.

    Where the recipe has noise, every image is seen twice, clean and with latent anomalies, which
    may lie anywhere but over the defects of a mask. `learned` makes that noise, and with
    `adversarial` climbs the loss that the head descends, with an L2 penalty; without `learned` it
    is Gaussian. GAP+CAM learns from the labels alone.
    """
    if isinstance(head, GapCamHead):
        score, _ = head(features)
        return focal(score.float(), truth.bad.to(features.device), gamma=recipe.score_gamma)
    adapted = head.adaptor(features)
    penalty = features.new_zeros(())
    if recipe.noise is not None:
        count, channels, height, width = features.shape
        if recipe.cells:  # neither shape nor neighbours are seen: all of them, clean and noisy
            masks = torch.ones(count, height, width, dtype=torch.bool)
        else:
            masks = noise_masks(count, height, width, recipe.perlin_threshold, generator)
        masks &= ~truth.anomalous  # [N, h, w]
        if learned is None:
            noise = draw_noise(masks, channels, recipe.noise_scale, generator).to(features)
        else:
            noise, penalty = _learned_noise(learned, adapted, masks, generator, adversarial)
        # Both heads look at the same anomalies, whichever features they see.
        adapted = torch.cat([adapted, adapted + noise])
        features = torch.cat([features, features + noise])
        truth = truth.with_noise(masks)
    truth = truth.to(features.device)
    anomaly_map = head.segmentation(adapted)
    cells = anomaly_map.float().squeeze(1)  # [N, 1, h, w] -> [N, h, w]; 2 N with noise
    if recipe.map_loss == "coverage":
        map_loss = coverage_loss(cells, truth.coverage, truth.known | (truth.coverage > 0))
    else:
        target, known = truth.anomalous, truth.known
        map_loss = truncated_l1(cells, target, known) + focal(cells, target, known)
    loss = recipe.map_weight * map_loss + penalty
    if isinstance(head, LeanHead):
        if not supervised:
            return loss  # highest values have nothing of their own to learn
        # Without the pooled term, which is right about most training images from the start.
        score = head.highest(anomaly_map)
    else:
        # Unsupervised, the score must not shape the map (ICPR 2024, section 3.5).
        seen = anomaly_map if supervised else anomaly_map.detach()
        score = head.classify(features, adapted, seen)
    return loss + focal(score.float(), truth.bad, gamma=recipe.score_gamma)


def _learned_noise(
    learned: NoiseGenerator,
    adapted: Tensor,
    masks: Tensor,
    generator: torch.Generator,
    adversarial: bool,
) -> tuple[Tensor, Tensor]:
    """Noise [N, C, h, w] and the penalty on it; the generator learns where it is adversarial."""
    masks = masks.to(adapted.device)
    with torch.set_grad_enabled(adversarial):
        noise = learned(adapted.detach(), masks, generator)
    if not adversarial:
        return noise, noise.new_zeros(())
    values = noise.float().square().sum() / (masks.sum().clamp(min=1) * noise.shape[1])
    return against(noise), _NOISE_PENALTY * values
