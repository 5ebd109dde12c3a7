"""What training images settle in closed form, before any gradient: statistics and discriminant."""

from collections.abc import Sequence

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from ssn_trainer.data.samples import Sample
from ssn_trainer.fit.features import FLIPS, FeatureStore
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import LeanHead, pooled_statistics
from ssn_trainer.model.network import Network

_BATCH = 32


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
    """Set the lean head's linear term by linear discriminant analysis on pooled features.

    `samples` are good and bad training images, filled with their mirror images.
    """
    if not isinstance(network.head, LeanHead) or network.head.decision is None:
        return
    rows, labels = [], []
    for start in range(0, len(samples), _BATCH):
        chunk = samples[start : start + _BATCH]
        for flip in range(FLIPS):
            layers = store.batch(chunk, [flip] * len(chunk))
            with torch.inference_mode():
                rows.append(pooled_statistics(network.features(*layers).float()).cpu())
            labels += [s.label == "bad" for s in chunk]
    values = torch.cat(rows).double().numpy()
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
        network.head.decision.weight.copy_(torch.from_numpy(weight)[None])
        network.head.decision.bias.fill_(bias)
