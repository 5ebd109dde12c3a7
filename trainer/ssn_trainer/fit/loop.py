"""The training loop: heads on cached features, the best state by the tune loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssn_contract.manifest import Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import TrainingError
from ssn_trainer.fit.features import FLIPS, FeatureStore, mixed_precision
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import (
    AnyHead,
    GapCamHead,
    LeanHead,
    highest,
    pooled_statistics,
)
from ssn_trainer.model.network import Network

_DECISION_SPREAD = 3.5
"""Standard deviation of the lean head's linear term over the training images: it counts about as
much as the map's highest values, which training drives some units apart."""
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
    # A channel that hardly varies over good images must not drown the others where it does.
    network.set_statistics(mean.float(), std.clamp(min=0.1 * float(std.median())).float())


def set_decision(network: Network, store: FeatureStore, samples: Sequence[Sample]) -> None:
    """Set the lean head's linear term by linear discriminant analysis on pooled features.

    `samples` are good and bad training images, filled with their mirror images.
    """
    if not isinstance(network.head, LeanHead) or network.head.decision is None:
        return
    rows, labels = [], []
    for start in range(0, len(samples), 32):
        chunk = samples[start : start + 32]
        for flip in range(FLIPS):
            layers = store.batch(chunk, [flip] * len(chunk))
            with torch.inference_mode():
                rows.append(pooled_statistics(network.features(*layers).float()).cpu())
            labels.append(_labels(chunk, torch.device("cpu")))
    values, bad = torch.cat(rows).double().numpy(), torch.cat(labels).numpy()
    scaler = StandardScaler().fit(values)
    # Strongly shrunk: there are more statistics than images.
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5, priors=[0.5, 0.5])
    discriminant.fit(scaler.transform(values), bad)
    scale = _DECISION_SPREAD / discriminant.decision_function(scaler.transform(values)).std()
    weight = scale * discriminant.coef_[0] / scaler.scale_
    bias = scale * discriminant.intercept_[0] - float(weight @ scaler.mean_)
    with torch.no_grad():
        network.head.decision.weight.copy_(torch.from_numpy(weight)[None])
        network.head.decision.bias.fill_(bias)


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
    keep = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]  # torch's
    average = AveragedModel(head, multi_avg_fn=keep, use_buffers=True)
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
            average.update_parameters(head)
            losses.append(float(loss.detach()))
            _refuse_nan(losses[-1], epoch)
        schedule.step()
        candidate = cast("AnyHead", average.module.eval())
        tune = _tune_loss(network, candidate, store, tune_part, recipe, supervised=supervised)
        _refuse_nan(tune, epoch)
        report(epoch, sum(losses) / len(losses), tune)
        if tune < best or not recipe.patience:
            best, best_epoch = tune, epoch
            best_state = {name: value.clone() for name, value in candidate.state_dict().items()}
        elif epoch - best_epoch >= recipe.patience:
            break
    head.load_state_dict(best_state)
    head.eval()
    return Trained(epoch, best_epoch, best)


def _optimizer(head: AnyHead, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the adaptor has a rate of its own and no weight decay."""
    adaptor = [] if isinstance(head, GapCamHead) else list(head.adaptor.parameters())
    own = {id(p) for p in adaptor}
    heads = [p for p in head.parameters() if id(p) not in own and p.requires_grad]
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
        flips = order.integers(0, FLIPS if recipe.flips else 1, size)
        yield batch, flips.tolist()


def _tune_loss(
    network: Network,
    head: AnyHead,
    store: FeatureStore,
    samples: Sequence[Sample],
    recipe: Recipe,
    *,
    supervised: bool,
) -> float:
    """How badly the tune part is told apart: by its labels, or by fixed noise without any.

    With labels it is the log loss after the best calibration (Platt): a threshold is chosen later
    anyhow, and a head that is right but too sure of itself must not look worse for it.
    """
    device = network.feature_mean.device
    generator = torch.Generator().manual_seed(0)  # the same noise for every epoch
    scores, losses = [], []
    for start in range(0, len(samples), recipe.batch):
        batch = samples[start : start + recipe.batch]
        layers = store.batch(batch, [0] * len(batch))
        with torch.inference_mode(), mixed_precision(device):
            features = network.features(*layers)
            if supervised:
                score, anomaly_map = head(features)
                if isinstance(head, LeanHead):
                    # Its linear term is fixed: an epoch is judged by what training changes.
                    score = highest(anomaly_map)
                scores.append(score.float().cpu())
            else:
                bad = _labels(batch, device)
                loss = batch_loss(head, features, bad, recipe, generator, supervised=False)
                losses += [float(loss)] * len(batch)
    if not supervised:
        return sum(losses) / len(losses)
    labels = _labels(samples, torch.device("cpu")).numpy()
    values = torch.cat(scores)[:, None].double().numpy()  # [N, 1]
    if not np.isfinite(values).all():
        return math.nan  # the caller knows the epoch
    scaled = StandardScaler().fit_transform(values)
    platt = LogisticRegression(C=100, class_weight="balanced").fit(scaled, labels)
    weights = compute_sample_weight("balanced", labels)
    return float(log_loss(labels, platt.predict_proba(scaled), sample_weight=weights))


def _labels(samples: Sequence[Sample], device: torch.device) -> Tensor:
    return torch.tensor([s.label == "bad" for s in samples], device=device)


def _refuse_nan(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        msg = (
            f"the loss is no longer a number in epoch {epoch}; look for damaged images or weights, "
            "or fit again with another --seed or --batch"
        )
        raise TrainingError(msg)
