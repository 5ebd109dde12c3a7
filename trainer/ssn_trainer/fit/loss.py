"""What is minimised, by head and regime."""

import torch
from torch import Tensor

from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import GapCamHead, SuperSimpleNetHead
from ssn_trainer.model.losses import focal, truncated_l1
from ssn_trainer.model.noise import draw_noise, noise_masks


def batch_loss(
    head: SuperSimpleNetHead | GapCamHead,
    features: Tensor,
    bad: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    supervised: bool,
) -> Tensor:
    """Loss of one batch: `features` [N, C, h, w], `bad` bool [N].

    SuperSimpleNet sees every image twice, clean and with latent anomalies. Where an image is bad
    and nobody says in which cells, its cells enter the map losses only where noise was added: there
    the answer is known (JIMS 2025, images without masks). GAP+CAM learns from the labels alone.
    """
    if isinstance(head, GapCamHead):
        score, _ = head(features)
        return focal(score.float(), bad, gamma=recipe.score_gamma)
    count, channels, height, width = features.shape
    masks = noise_masks(count, height, width, recipe.perlin_threshold, generator)  # [N, h, w]
    noise = draw_noise(masks, channels, recipe.sigma, generator).to(features)
    masks = masks.to(features.device)
    adapted = head.adaptor(features)
    # Both heads look at the same anomalies, whichever features they see.
    adapted = torch.cat([adapted, adapted + noise])
    features = torch.cat([features, features + noise])
    anomaly_map = head.segmentation(adapted)
    # Unsupervised, the score must not shape the map (ICPR 2024, section 3.5).
    seen = anomaly_map if supervised else anomaly_map.detach()
    score = head.classify(features, adapted, seen).float()
    anomaly_map = anomaly_map.float()
    # [N, h, w] twice -> [2N, 1, h, w]
    target = torch.cat([torch.zeros_like(masks), masks])[:, None]
    known = target | ~torch.cat([bad, bad])[:, None, None, None]
    anomalous = torch.cat([bad, bad | masks.flatten(1).any(dim=1)])
    return (
        truncated_l1(anomaly_map, target, known)
        + focal(anomaly_map, target, known)
        + focal(score, anomalous, gamma=recipe.score_gamma)
    )
