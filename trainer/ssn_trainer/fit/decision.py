"""What images settle in closed form, without any gradient: statistics, discriminant, novelty."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssn_trainer.data.samples import Sample
from ssn_trainer.fit.features import FLIPS, FeatureStore, mixed_precision
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import LeanHead, Novelty, pooled_statistics
from ssn_trainer.model.network import Network

_BATCH = 32
_FEWEST_TO_WEIGH = 8
"""With fewer images the spread of a term over them is anyone's guess."""


def standardise(network: Network, store: FeatureStore, good: Sequence[Sample]) -> None:
    """Set the network's feature statistics to those of the good training images."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(good), _BATCH):
        chunk = good[start : start + _BATCH]
        layer2, layer3 = store.batch(chunk, [0] * len(chunk))
        merged = network.extractor.merge(layer2.float(), layer3.float()).double()
        count += merged.numel() // merged.shape[1]
        total = total + merged.sum(dim=(0, 2, 3)).cpu()
        squares = squares + merged.square().sum(dim=(0, 2, 3)).cpu()
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-8).sqrt()
    # A channel that hardly varies over good images must not drown the others where it does.
    network.set_statistics(mean.float(), std.clamp(min=0.1 * float(std.median())).float())


def set_decision(
    network: Network, store: FeatureStore, samples: Sequence[Sample], recipe: Recipe
) -> None:
    """Set the lean head's term over pooled features, from training images and their mirror images.

    With labels by linear discriminant analysis; with good images alone to what these span.
    """
    if not isinstance(network.head, LeanHead):
        return
    flips = range(FLIPS if recipe.flips else 1)
    values = np.concatenate([_pooled(network, store, samples, flip) for flip in flips])
    if isinstance(network.head.pooled, Novelty):
        _set_novelty(network.head.pooled, values, recipe.novelty_directions)
    else:
        labels = [s.label == "bad" for _ in flips for s in samples]
        _set_discriminant(network.head.pooled, values, labels, recipe)


def weigh_novelty(
    network: Network,
    store: FeatureStore,
    good: Sequence[Sample],
    recipe: Recipe,
    say: Callable[[str], None],
) -> None:
    """Let novelty vary over good images that it has not learned from by its share of the map's.

    Nothing says which of the two defects will show in: neither may drown the other. With too few
    images the term stays without weight; `say` is told.
    """
    head = network.head
    if not isinstance(head, LeanHead) or not isinstance(head.pooled, Novelty):
        return
    if len(good) < _FEWEST_TO_WEIGH:
        say(
            f"only {len(good)} good images to tune on: the score is the map's alone, without the "
            f"novelty of the whole image; add good images, until {_FEWEST_TO_WEIGH} are there"
        )
        return
    highest, residuals = [], []
    for start in range(0, len(good), _BATCH):
        chunk = good[start : start + _BATCH]
        layers = store.batch(chunk, [0] * len(chunk))
        with torch.inference_mode(), mixed_precision(store.device):
            features = network.features(*layers)
            _, anomaly_map = head(features)
        highest.append(head.highest(anomaly_map.float()).cpu())
        residuals.append(head.pooled.residual(pooled_statistics(features.float())).cpu())
    ratio = torch.cat(highest).std() / torch.cat(residuals).std().clamp(min=1e-6)
    head.pooled.weight.fill_(recipe.novelty_share * float(ratio))


def _pooled(
    network: Network, store: FeatureStore, samples: Sequence[Sample], flip: int
) -> NDArray[np.float64]:
    """Pooled statistics of samples in one mirror image, [N, S]."""
    rows = []
    for start in range(0, len(samples), _BATCH):
        chunk = samples[start : start + _BATCH]
        layers = store.batch(chunk, [flip] * len(chunk))
        with torch.inference_mode():
            rows.append(pooled_statistics(network.features(*layers).float()).cpu())
    return torch.cat(rows).double().numpy()


def _set_novelty(novelty: Novelty, values: NDArray[np.float64], directions: int) -> None:
    scaler = StandardScaler().fit(values)
    # Fewer directions than images, or nothing would be beside them.
    kept = min(directions, len(values) // 4)
    pca = PCA(kept, svd_solver="full").fit(scaler.transform(values))
    # PCA centres once more, on what the scaler has centred already: on zero.
    novelty.mean.copy_(torch.from_numpy(scaler.mean_))
    novelty.scale.copy_(torch.from_numpy(scaler.scale_))
    novelty.basis[:kept].copy_(torch.from_numpy(pca.components_))


def _set_discriminant(
    linear: nn.Linear, values: NDArray[np.float64], labels: Sequence[bool], recipe: Recipe
) -> None:
    scaler = StandardScaler().fit(values)
    # Strongly shrunk: there are more statistics than images.
    discriminant = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=recipe.decision_shrinkage, priors=[0.5, 0.5]
    )
    discriminant.fit(scaler.transform(values), labels)
    spread = discriminant.decision_function(scaler.transform(values)).std()
    scale = recipe.decision_spread / spread
    weight = scale * discriminant.coef_[0] / scaler.scale_
    bias = scale * discriminant.intercept_[0] - float(weight @ scaler.mean_)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight)[None])
        linear.bias.fill_(bias)
