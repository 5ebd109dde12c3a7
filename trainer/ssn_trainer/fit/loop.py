"""The training loop: heads on cached features, the best state by the tune loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssn_contract.manifest import Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.data.split import Split
from ssn_trainer.errors import TrainingError
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.features import FLIPS, FeatureStore, mixed_precision
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.fit.state import State, TrainingState
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.fit.tune import tune_loss
from ssn_trainer.model.network import Network

_MIN_STEPS = 16
"""Fewest steps of an epoch; a small data set is walked through several times."""
_CELL_STEPS = 256
"""Steps of an epoch on cells, shared among its batches of images: however few or many these are."""
_ADVERSARIAL_EVERY = 4
"""Learned noise is trained in every fourth step, as in SuperSimpleNet-Evolved."""


@dataclass(frozen=True)
class Trained:
    """How the training went; the network holds the weights of `best_epoch`."""

    epochs: int
    best_epoch: int


def train(
    network: Network,
    store: FeatureStore,
    parts: Split,
    regime: Regime,
    recipe: Recipe,
    seed: int,
    checkpoint: Checkpoint,
    report: Callable[[int, float, float], None],
) -> Trained:
    """Train the network's head in place; train and tune part hold what the regime may learn from.

    `report` gets epoch, mean training loss and tune loss. With patience the epoch of the lowest
    tune loss is kept. The state after each epoch goes into `checkpoint`, and training goes on from
    there. Same seed, samples and machine: same weights. Raises TrainingError, DataError, OSError.
    """
    supervised = regime is not Regime.UNSUPERVISED
    learnt = Truths(parts.train, store.grid, recipe.mask_share)
    tuned = Truths(parts.tune, store.grid, recipe.mask_share)
    state = TrainingState(network, recipe, seed)
    checkpoint.resume(state)
    while not state.finished:
        epoch = state.epoch + 1
        try:
            loss = _walk(network, store, parts.train, learnt, state, supervised=supervised)
            head = state.candidate
            tune = tune_loss(network, head, store, parts.tune, tuned, recipe, supervised=supervised)
            refuse_nan(tune, "the tune loss")
        except FloatingPointError as error:
            raise diverged(error, state, checkpoint) from error
        state.finish_epoch(tune)
        checkpoint.write(state)
        report(epoch, loss, tune)
    state.head.load_state_dict(state.best_weights)
    state.head.eval()
    return Trained(state.epoch, state.best_epoch)


def _walk(
    network: Network,
    store: FeatureStore,
    samples: Sequence[Sample],
    truths: Truths,
    state: TrainingState,
    *,
    supervised: bool,
) -> float:
    """Train for one epoch; return the mean loss. Raises FloatingPointError before a bad step."""
    head, recipe = state.head.train(), state.recipe
    losses: list[float] = []
    batches = list(draw_batches(samples, recipe, state.batch_draws))
    draws = max(1, round(_CELL_STEPS / len(batches))) if recipe.cells else 1
    for batch, flips in batches:
        layers = store.batch(batch, flips)
        with mixed_precision(store.device):
            features = network.features(*layers)
        truth = truths.batch(batch, flips)
        for _ in range(draws):
            state.set_rates((state.epoch + len(losses) / (len(batches) * draws)) / recipe.epochs)
            step = len(losses) + 1
            adversarial = state.learned is not None and step % _ADVERSARIAL_EVERY == 0
            with mixed_precision(store.device):
                loss = batch_loss(
                    head,
                    *draw_cells(features, truth, recipe.cells, state.noise_draws),
                    recipe,
                    state.noise_draws,
                    supervised=supervised,
                    learned=state.learned,
                    adversarial=adversarial,
                )
            losses.append(float(loss.detach()))
            refuse_nan(
                losses[-1], f"the loss of step {step} ({', '.join(s.name for s in batch[:3])}…)"
            )
            _step(state, loss, adversarial=adversarial, clip=supervised)
    return sum(losses) / len(losses)


def draw_cells(
    features: Tensor, truth: Truth, count: int, generator: torch.Generator
) -> tuple[Tensor, Truth]:
    """Draw `count` cells of a batch, but no more than it has, as one image of them.

    0: the batch as it is.
    """
    if not count:
        return features, truth
    there = truth.known.numel()
    drawn = torch.randint(there, (min(count, there),), generator=generator)
    # [N, C, h, w] -> [N * h * w, C] -> [M, C] -> [1, C, M, 1]
    cells = features.permute(0, 2, 3, 1).flatten(0, 2)[drawn.to(features.device)]
    return cells.T[None, :, :, None], truth.cells(drawn)


def _step(state: TrainingState, loss: torch.Tensor, *, adversarial: bool, clip: bool) -> None:
    """One step of the head, and of the learned noise where it takes part."""
    state.optimizer.zero_grad()
    if adversarial and state.learned_optimizer is not None:
        state.learned_optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if clip:
        torch.nn.utils.clip_grad_norm_(state.head.parameters(), 1.0)
    state.optimizer.step()
    if adversarial and state.learned_optimizer is not None:
        state.learned_optimizer.step()
    state.average.update_parameters(state.head)


def draw_batches(
    samples: Sequence[Sample], recipe: Recipe, order: np.random.Generator, steps: int | None = None
) -> Iterator[tuple[list[Sample], list[int]]]:
    """One epoch: shuffled batches, the rest that fills none left out, and a flip for each image.

    Balanced, half of each batch is bad, and the rarer images come more often. Without `steps` all
    images come, where there are enough for an epoch.
    """
    size = min(recipe.batch, len(samples))
    steps = steps or max(_MIN_STEPS, len(samples) // size)
    classes = [list(samples)]
    if recipe.balanced:
        classes = [[s for s in samples if s.label == label] for label in ("bad", "good")]
    shares = [size // len(classes)] * len(classes)
    shares[-1] = size - sum(shares[:-1])
    walks = [_walk_through(c, n * steps, order) for c, n in zip(classes, shares, strict=True)]
    for step in range(steps):
        pairs = zip(walks, shares, strict=True)
        batch = [s for walk, n in pairs for s in walk[step * n : (step + 1) * n]]
        flips = order.integers(0, FLIPS if recipe.flips else 1, size)
        yield batch, flips.tolist()


def _walk_through(
    samples: Sequence[Sample], count: int, order: np.random.Generator
) -> list[Sample]:
    """Draw `count` of them, each once before any comes again."""
    walks = -(-count // len(samples))
    indices = np.concatenate([order.permutation(len(samples)) for _ in range(walks)])
    return [samples[i] for i in indices[:count]]


def refuse_nan(loss: float, what: str) -> None:
    """Raise FloatingPointError for a loss that is no number."""
    if not math.isfinite(loss):
        msg = f"{what} is no longer a number"
        raise FloatingPointError(msg)


def diverged(error: FloatingPointError, state: State, checkpoint: Checkpoint) -> TrainingError:
    """Return what to say of an epoch that `refuse_nan` has ended."""
    done = state.epoch
    kept = f"; the state after epoch {done} is in {checkpoint.path}" if done else ""
    return TrainingError(
        f"epoch {done + 1}: {error}{kept}; look for damaged images or weights, or fit again with "
        "another --seed or --batch"
    )
