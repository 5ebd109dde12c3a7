"""How well a head does on the tune part: what decides which epoch is kept."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from ssn_trainer.data.samples import Sample
from ssn_trainer.fit.features import FeatureStore, mixed_precision
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.model.heads import AnyHead, LeanHead
from ssn_trainer.model.network import Network


def tune_loss(
    network: Network,
    head: AnyHead,
    store: FeatureStore,
    samples: Sequence[Sample],
    truths: Truths,
    recipe: Recipe,
    *,
    supervised: bool,
) -> float:
    """How badly the tune part is told apart; not a number where the head's values are none.

    By its labels, and where some of its masks may be seen by those as well, in equal parts; without
    any label by fixed noise.
    """
    if not supervised:
        return _noise_loss(network, head, store, samples, truths, recipe)
    scores, cells, bad, anomalous = [], [], [], []
    for layers, truth in _batches(store, samples, truths, recipe.batch):
        with torch.inference_mode(), mixed_precision(store.device):
            score, anomaly_map = head(network.features(*layers))
            if isinstance(head, LeanHead):
                # Its linear term is fixed: an epoch is judged by what training changes.
                score = head.highest(anomaly_map)
        scores.append(score.float().cpu())
        bad.append(truth.bad)
        cells.append(anomaly_map.squeeze(1).float().cpu()[truth.known])  # [N, h, w] -> [known]
        anomalous.append(truth.anomalous[truth.known])
    loss = _calibrated_log_loss(torch.cat(scores), torch.cat(bad))
    marked = torch.cat(anomalous)
    if not marked.any():
        return loss
    return (loss + _calibrated_log_loss(torch.cat(cells), marked)) / 2


def _noise_loss(
    network: Network,
    head: AnyHead,
    store: FeatureStore,
    samples: Sequence[Sample],
    truths: Truths,
    recipe: Recipe,
) -> float:
    """Mean loss with Gaussian noise, the same for every epoch, learned noise or not."""
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for layers, truth in _batches(store, samples, truths, recipe.batch):
        with torch.inference_mode(), mixed_precision(store.device):
            features = network.features(*layers)
            loss = batch_loss(head, features, truth, recipe, generator, supervised=False)
        total += float(loss) * len(truth.bad)
    return total / len(samples)


def _batches(
    store: FeatureStore, samples: Sequence[Sample], truths: Truths, size: int
) -> Iterator[tuple[tuple[Tensor, Tensor], Truth]]:
    """Backbone layers of the images as they are, and what is known of them, in order."""
    for start in range(0, len(samples), size):
        batch = samples[start : start + size]
        flips = [0] * len(batch)
        yield store.batch(batch, flips), truths.batch(batch, flips)


def _calibrated_log_loss(values: Tensor, positive: Tensor) -> float:
    """Log loss of values [N] after the best calibration (Platt), both classes of equal weight.

    A threshold is chosen later anyhow, and a head that is right but too sure of itself must not
    look worse for it.
    """
    column: NDArray[np.float64] = values.double().numpy()[:, None]  # [N] -> [N, 1]
    if not np.isfinite(column).all():
        return math.nan
    labels = positive.numpy()
    scaled = StandardScaler().fit_transform(column)
    platt = LogisticRegression(C=100, class_weight="balanced").fit(scaled, labels)
    if platt.coef_[0, 0] <= 0:
        return math.log(2)  # upside down: no better than knowing nothing
    weights = compute_sample_weight("balanced", labels)
    return float(log_loss(labels, platt.predict_proba(scaled), sample_weight=weights))
