"""The training loop: heads on cached features, the best state by the tune loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssn_contract.manifest import Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import TrainingError
from ssn_trainer.fit.features import FeatureStore, mixed_precision
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import GapCamHead, SuperSimpleNetHead
from ssn_trainer.model.losses import focal, truncated_l1
from ssn_trainer.model.network import Network
from ssn_trainer.model.noise import draw_noise, noise_masks

_MIN_STEPS = 16
"""Fewest steps of an epoch; a small data set is walked through several times."""


@dataclass(frozen=True)
class Trained:
    """How the training went; the network holds the weights of `best_epoch`."""

    epochs: int
    best_epoch: int
    tune_loss: float


def standardise(network: Network, store: FeatureStore, good: Sequence[Sample]) -> None:
    """Set the network's feature statistics to those of the good training images."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(good), 32):
        chunk = good[start : start + 32]
        layer2, layer3 = store.batch(chunk, [0] * len(chunk))
        merged = network.extractor.merge(layer2.float(), layer3.float()).double()
        count += merged.numel() // merged.shape[1]
        total = total + merged.sum(dim=(0, 2, 3)).cpu()
        squares = squares + merged.square().sum(dim=(0, 2, 3)).cpu()
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-8).sqrt()
    # A channel that hardly varies over good images must not amplify rounding.
    network.set_statistics(mean.float(), std.clamp(min=1e-3 * float(std.max())).float())


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


def train(
    network: Network,
    store: FeatureStore,
    train_part: Sequence[Sample],
    tune_part: Sequence[Sample],
    regime: Regime,
    recipe: Recipe,
    seed: int,
    report: Callable[[int, float, float], None],
) -> Trained:
    """Train the network's head in place; the parts hold what the regime may learn from.

    `report` gets epoch, mean training loss and tune loss. With patience the epoch of the lowest
    tune loss is kept. Same seed, samples and machine: same weights. Raises TrainingError.
    """
    device = network.feature_mean.device
    generator = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed)
    supervised = regime is Regime.WEAK
    head = network.head
    optimizer = _optimizer(head, recipe)
    milestones = [round(recipe.epochs * share) for share in (0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.4)
    best, best_state, best_epoch = math.inf, head.state_dict(), 0
    for epoch in range(1, recipe.epochs + 1):
        head.train()
        losses = []
        for batch, flips in _batches(train_part, recipe, order):
            layers = store.batch(batch, flips)
            with mixed_precision(device):
                features = network.features(*layers)
                bad = _labels(batch, device)
                loss = batch_loss(head, features, bad, recipe, generator, supervised=supervised)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if supervised:
                torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                msg = (
                    f"the loss is no longer a number in epoch {epoch}; look for damaged images or "
                    "weights, or fit again with another --seed or --batch"
                )
                raise TrainingError(msg)
        schedule.step()
        tune = _tune_loss(network, store, tune_part, recipe, supervised=supervised)
        report(epoch, sum(losses) / len(losses), tune)
        if tune < best or not recipe.patience:
            best, best_epoch = tune, epoch
            best_state = {name: value.clone() for name, value in head.state_dict().items()}
        elif epoch - best_epoch >= recipe.patience:
            break
    head.load_state_dict(best_state)
    head.eval()
    return Trained(epoch, best_epoch, best)


def _optimizer(head: SuperSimpleNetHead | GapCamHead, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the adaptor has a rate of its own and no weight decay."""
    adaptor = list(head.adaptor.parameters()) if isinstance(head, SuperSimpleNetHead) else []
    own = {id(p) for p in adaptor}
    heads = [p for p in head.parameters() if id(p) not in own]
    groups = [{"params": heads, "lr": recipe.lr_heads, "weight_decay": recipe.weight_decay}]
    if adaptor:
        groups.append({"params": adaptor, "lr": recipe.lr_adaptor, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def _batches(
    samples: Sequence[Sample], recipe: Recipe, order: np.random.Generator
) -> Iterator[tuple[list[Sample], list[int]]]:
    """One epoch: shuffled batches, the rest that fills none left out, and a flip for each image."""
    size = min(recipe.batch, len(samples))
    steps = max(_MIN_STEPS, len(samples) // size)
    walks = -(-steps * size // len(samples))
    indices = np.concatenate([order.permutation(len(samples)) for _ in range(walks)])
    for step in range(steps):
        batch = [samples[i] for i in indices[step * size : (step + 1) * size]]
        flips = order.integers(0, 4 if recipe.flips else 1, size)
        yield batch, flips.tolist()


def _tune_loss(
    network: Network,
    store: FeatureStore,
    samples: Sequence[Sample],
    recipe: Recipe,
    *,
    supervised: bool,
) -> float:
    """Mean loss of the tune part: of the labels where they teach, else against fixed noise."""
    head, device = network.head.eval(), network.feature_mean.device
    generator = torch.Generator().manual_seed(0)  # the same noise for every epoch
    total = 0.0
    for start in range(0, len(samples), recipe.batch):
        batch = samples[start : start + recipe.batch]
        layers = store.batch(batch, [0] * len(batch))
        with torch.inference_mode(), mixed_precision(device):
            features = network.features(*layers)
            bad = _labels(batch, device)
            if supervised:
                score, _ = head(features)
                loss = focal(score.float(), bad, gamma=recipe.score_gamma)
            else:
                loss = batch_loss(head, features, bad, recipe, generator, supervised=False)
        total += float(loss) * len(batch)
    return total / len(samples)


def _labels(samples: Sequence[Sample], device: torch.device) -> Tensor:
    return torch.tensor([s.label == "bad" for s in samples], device=device)
