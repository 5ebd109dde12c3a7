"""What images settle in closed form, without any gradient: statistics, discriminant, novelty."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ssn_trainer.data.samples import Sample
from ssn_trainer.fit.features import FLIPS, FeatureStore, mixed_precision
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import LeanHead, Novelty
from ssn_trainer.model.network import Network

_BATCH = 32
_FEWEST_GOOD, _FEWEST_BAD = 8, 4
"""With fewer tune images, what a term is over them is anyone's guess."""
_LEAST_SEPARATION = 0.25
"""Deviations: what a map that tells nothing apart counts as, for it is divided by."""


def standardise(network: Network, store: FeatureStore, good: Sequence[Sample]) -> None:
    """Set the network's feature statistics to those of the good training images."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for layer2, layer3 in _batches(store, good):
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
    values = (v for flip in flips for v in _pooled(network, network.head, store, samples, flip))
    if isinstance(network.head.pooled, Novelty):
        set_novelty(network.head.pooled, values, recipe.novelty_directions)
    else:
        labels = [s.label == "bad" for _ in flips for s in samples]
        _set_discriminant(network.head.pooled, torch.cat(list(values)).numpy(), labels, recipe)


def too_few(tune: Sequence[Sample], outcome: str, *, labelled: bool = True) -> str | None:
    """Return None where there are enough images to weigh terms by, bad ones where `labelled`.

    Else how many there are, the outcome, and what to do, in words.
    """
    bad = sum(s.label == "bad" for s in tune)
    good = len(tune) - bad
    if good >= _FEWEST_GOOD and (bad >= _FEWEST_BAD or not labelled):
        return None
    also, wanted = (f" and {bad} bad", f" and {_FEWEST_BAD}") if labelled else ("", "")
    return (
        f"only {good} good{also} images to tune on: {outcome}; "
        f"add images, until {_FEWEST_GOOD}{wanted} are there"
    )


def weigh_noise_member(
    network: Network,
    store: FeatureStore,
    tune: Sequence[Sample],
    labelled: LeanHead,
    noise_head: LeanHead,
) -> float:
    """Return what the map learned from noise counts beside the one learned from labels.

    Each counts by how far it sets bad tune images from good ones, in units of what it varies over
    good ones: a map that tells nothing apart counts nothing. The one from labels counts 1.
    """
    bad = np.array([s.label == "bad" for s in tune])
    own, beside = (_terms(network, one, store, tune)[0] for one in (labelled, noise_head))
    share = max(_separation(beside, bad), 0.0) / max(_separation(own, bad), _LEAST_SEPARATION)
    return share * float(own[~bad].std()) / max(float(beside[~bad].std()), 1e-6)


def weigh_pooled(
    network: Network,
    store: FeatureStore,
    tune: Sequence[Sample],
    recipe: Recipe,
    say: Callable[[str], None],
) -> None:
    """Weigh the lean head's pooled term against its map, by images that neither has learned from.

    With labels each term counts by how far it sets bad images from good ones: the discriminant of
    two independent terms. Without labels nothing says which of the two a defect will show in, and
    novelty varies over good images by a fixed share of the map's. With too few images the map
    stands alone; `say` is told.
    """
    head = network.head
    if not isinstance(head, LeanHead):
        return
    labelled = not isinstance(head.pooled, Novelty)
    seen = [s for s in tune if labelled or s.label == "good"]
    bad = np.array([s.label == "bad" for s in seen])
    outcome = "the score is the map's alone, without the pooled features' term"
    problem = too_few(seen, outcome, labelled=labelled)
    if problem:
        say(problem)
        _weigh(head.pooled, 0.0)
        return
    highest, pooled = _terms(network, head, store, seen)
    share = recipe.novelty_share
    if labelled:
        by_map, by_pooled = _separation(highest, bad), _separation(pooled, bad)
        share = max(by_pooled, 0.0) / max(by_map, _LEAST_SEPARATION)
    _weigh(head.pooled, share * _deviation(highest, bad) / max(_deviation(pooled, bad), 1e-6))


def _terms(
    network: Network, head: LeanHead, store: FeatureStore, samples: Sequence[Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both terms of samples, [N] each: the highest map values, and what is pooled, unweighted."""
    highest, pooled = [], []
    for layers in _batches(store, samples):
        with torch.inference_mode(), mixed_precision(store.device):
            features = network.features(*layers)
            _, anomaly_map = head(features)
        with torch.inference_mode():
            statistics = head.statistics(features.float())
            term = head.pooled
            found = term.residual(statistics) if isinstance(term, Novelty) else term(statistics)
        highest.append(head.highest(anomaly_map.float()).cpu())
        pooled.append(found.flatten(1).amax(dim=1).cpu())  # [N, 1] or of windows [N, r, c] -> [N]
    return torch.cat(highest).double().numpy(), torch.cat(pooled).double().numpy()


def _batches(
    store: FeatureStore, samples: Sequence[Sample], flip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Backbone layers of samples, in order, all in the same mirror image."""
    for start in range(0, len(samples), _BATCH):
        chunk = samples[start : start + _BATCH]
        yield store.batch(chunk, [flip] * len(chunk))


def _deviation(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Standard deviation within the classes."""
    centred = [values[of] - values[of].mean() for of in (bad, ~bad) if of.any()]
    return float(np.concatenate(centred).std())


def _separation(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """How many deviations bad images lie above good ones in the mean."""
    apart = float(values[bad].mean() - values[~bad].mean())
    return apart / max(_deviation(values, bad), 1e-6)


def _weigh(term: nn.Linear | Novelty, weight: float) -> None:
    """Give a term its weight; as it is set, a linear one has weight one."""
    if isinstance(term, Novelty):
        term.weight.fill_(weight)
        return
    with torch.no_grad():
        term.weight.mul_(weight)
        term.bias.mul_(weight)


def _pooled(
    network: Network, head: LeanHead, store: FeatureStore, samples: Sequence[Sample], flip: int
) -> Iterator[Tensor]:
    """Pooled statistics of samples in one mirror image, or of all their windows: [M, S] a batch."""
    for layers in _batches(store, samples, flip):
        with torch.inference_mode():
            statistics = head.statistics(network.features(*layers).float())
        yield statistics.reshape(-1, statistics.shape[-1]).cpu().double()


def set_novelty(novelty: Novelty, values: Iterator[Tensor], directions: int) -> None:
    """Set it to the principal directions of values, [M, S] each, standardised over all of them."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for rows in values:
        count += len(rows)
        total = total + rows.sum(dim=0)
        products = products + rows.T @ rows
    mean = total / count
    covariance = products / count - torch.outer(mean, mean)
    scale = covariance.diagonal().clamp(min=0).sqrt()
    scale[scale < 1e-6] = 1.0  # what never varies has no scale
    _, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    # Fewer directions than values, or nothing would be beside them.
    kept = min(directions, count // 4, len(mean) // 4)
    novelty.mean.copy_(mean)
    novelty.scale.copy_(scale)
    novelty.basis[:kept].copy_(vectors[:, -kept:].T)  # the largest come last


def _set_discriminant(
    linear: nn.Linear, values: NDArray[np.float64], labels: Sequence[bool], recipe: Recipe
) -> None:
    scaler = StandardScaler().fit(values)
    # Strongly shrunk: there are more statistics than images.
    discriminant = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=recipe.decision_shrinkage, priors=[0.5, 0.5]
    )
    discriminant.fit(scaler.transform(values), labels)
    weight = discriminant.coef_[0] / scaler.scale_
    bias = discriminant.intercept_[0] - float(weight @ scaler.mean_)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight)[None])
        linear.bias.fill_(bias)
