"""What is minimised, by head and regime."""

import torch
from torch import Tensor

from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import AnyHead, GapCamHead, LeanHead, highest
from ssn_trainer.model.losses import focal, truncated_l1
from ssn_trainer.model.noise import draw_noise, noise_masks


def batch_loss(
    head: AnyHead,
    features: Tensor,
    bad: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    supervised: bool,
) -> Tensor:
    """Loss of one batch: `features` [N, C, h, w], `bad` bool [N].

    SuperSimpleNet sees every image twice, clean and with latent anomalies; once where the recipe
    has no noise. Where an image is bad and nobody says in which cells, its cells enter the map
    losses only where noise was added: there the answer is known (JIMS 2025, images without masks).
    GAP+CAM learns from the labels alone.
    """
    if isinstance(head, GapCamHead):
        score, _ = head(features)
        return focal(score.float(), bad, gamma=recipe.score_gamma)
    adapted = head.adaptor(features)
    count, channels, height, width = features.shape
    target = torch.zeros(count, height, width, dtype=torch.bool, device=features.device)
    if recipe.sigma:
        masks = noise_masks(count, height, width, recipe.perlin_threshold, generator)  # [N, h, w]
        noise = draw_noise(masks, channels, recipe.sigma, generator).to(features)
        # Both heads look at the same anomalies, whichever features they see.
        adapted = torch.cat([adapted, adapted + noise])
        features = torch.cat([features, features + noise])
        target = torch.cat([target, masks.to(target)])
        bad = torch.cat([bad, bad])
    anomaly_map = head.segmentation(adapted)
    # Unsupervised, the score must not shape the map (ICPR 2024, section 3.5).
    seen = anomaly_map if supervised else anomaly_map.detach()
    if isinstance(head, LeanHead):
        # Without its linear term, which is right about most training images from the start.
        score = highest(seen).float()
    else:
        score = head.classify(features, adapted, seen).float()
    anomalous = bad | target.flatten(1).any(dim=1)
    # [N, h, w] -> [N, 1, h, w]; twice as many images with noise
    anomaly_map, target = anomaly_map.float(), target[:, None]
    known = target | ~bad[:, None, None, None]
    map_loss = truncated_l1(anomaly_map, target, known) + focal(anomaly_map, target, known)
    return recipe.map_weight * map_loss + focal(score, anomalous, gamma=recipe.score_gamma)
