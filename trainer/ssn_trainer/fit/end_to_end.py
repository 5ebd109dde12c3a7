"""Backbone and head learn from masks together, on crops of the images."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ssn_contract.manifest import Regime
from ssn_trainer.data.images import load_input
from ssn_trainer.data.samples import Sample
from ssn_trainer.data.split import Split
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.decision import standardise
from ssn_trainer.fit.features import FLIP_AXES, FeatureStore, mixed_precision
from ssn_trainer.fit.loop import Trained, diverged, draw_batches, refuse_nan
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.members import deciding
from ssn_trainer.fit.order import Order
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.fit.state import State, one_cycle
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.model.network import Network
from ssn_trainer.progress import progress

_STEPS = 25
"""Steps of an epoch."""
_CROP = 40
"""Most cells of layer2 that a crop has a side: 320 pixels show a defect and what is about it."""
_CROP_SHARE = 7 / 8
"""Largest share of an image's side that a crop has, so that crops differ where images are small."""
_JITTER = 0.15
"""Standard deviation of the contrast's logarithm, and of the brightness over 100 levels."""
_STANDARDISED_BY = 64
"""Good images that say how features vary before they are trained."""
_MASKS_ALONE = 0.25
"""Share of the training in which bad images without a mask take no part: until the map can tell
where their defects may be."""


def train_end_to_end(
    network: Network,
    store: FeatureStore,
    seen: Split,
    regime: Regime,
    recipe: Recipe,
    order: Order,
    console: Console,
) -> tuple[Trained, tuple[Checkpoint, ...]]:
    """Train the network's backbone and head in place, or go on where that was cut off.

    `store` is of the backbone as it was; its key is that of the checkpoint. Nothing is chosen by
    the tune part: it says later what terms are worth that have learned from no image of it. Same
    seed, samples and machine: same weights, on a processor (GPUs add up in any order). Raises
    TrainingError, DataError, OSError.
    """
    good = [s for s in seen.train if s.label == "good"]
    some = good[:: -(-len(good) // _STANDARDISED_BY)]
    with progress(console, "features of some", len(some)) as advance:
        store.fill(some, flips=False, advance=advance)
    standardise(network, store, some)
    path = order.out / f"{order.name}.checkpoint.safetensors"
    checkpoint = Checkpoint(path, deciding(order, recipe, regime, store, seen), console.print)
    if order.fresh:
        checkpoint.remove()
    with progress(console, "training", recipe.epochs) as advance:

        def report(epoch: int, loss: float) -> None:
            advance(1)
            console.print(f"epoch {epoch}: loss {loss:.4f}")

        _train(network, store, seen.train, recipe, order.seed, checkpoint, report)
    return Trained(recipe.epochs, recipe.epochs), (checkpoint,)


def _train(
    network: Network,
    store: FeatureStore,
    samples: Sequence[Sample],
    recipe: Recipe,
    seed: int,
    checkpoint: Checkpoint,
    report: Callable[[int, float], None],
) -> None:
    """Train on crops of the good samples, and of bad ones about their defects.

    Batch norms of the backbone keep their statistics. `report` gets epoch and mean loss; the state
    after each epoch goes into `checkpoint`.
    """
    known = [s for s in samples if s.label == "good" or s.mask is not None]
    truths = Truths(samples, store.grid, recipe.mask_share)
    backbone = network.extractor.backbone.requires_grad_(requires_grad=True)
    modules = {"backbone": backbone, "head": network.head}
    state = State(modules, {"optimizer": _optimizer(network, recipe)}, seed)
    checkpoint.resume(state)
    while state.epoch < recipe.epochs:
        try:
            early = state.epoch < int(_MASKS_ALONE * recipe.epochs)
            loss = _walk(network, known if early else samples, truths, recipe, state)
        except FloatingPointError as error:
            raise diverged(error, state, checkpoint) from error
        state.epoch += 1
        checkpoint.write(state)
        report(state.epoch, loss)
    backbone.requires_grad_(requires_grad=False)
    network.eval()


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the backbone has a rate of its own, and no weight decay: it is to stay what it was."""
    backbone = list(network.extractor.backbone.parameters())
    head = [p for p in network.head.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": backbone, "initial_lr": recipe.lr_backbone, "weight_decay": 0.0},
            {"params": head, "initial_lr": recipe.lr_heads, "weight_decay": recipe.weight_decay},
        ]
    )


def _walk(
    network: Network, samples: Sequence[Sample], truths: Truths, recipe: Recipe, state: State
) -> float:
    """Train for one epoch; return the mean loss. Raises FloatingPointError before a bad step."""
    device = network.feature_mean.device
    batches = list(draw_batches(samples, recipe, state.batch_draws, _STEPS))
    drawn = {s.name: s for batch, _ in batches for s in batch if s.label == "bad" and not s.mask}
    suspects = {name: _suspects(network, sample) for name, sample in drawn.items()}
    head = network.head.train()
    learned = [p for p in network.parameters() if p.requires_grad]
    losses: list[float] = []
    for batch, flips in batches:
        done = (state.epoch + len(losses) / _STEPS) / recipe.epochs
        state.scale_rates(one_cycle(done))
        pixels, truth = _crops(network, batch, flips, truths, suspects, state.batch_draws)
        with mixed_precision(device):
            features = network.features(*network.extractor.layers(pixels.to(device)))
            loss = batch_loss(head, features, truth, recipe, state.noise_draws, supervised=True)
        losses.append(float(loss.detach()))
        names = ", ".join(s.name for s in batch[:3])
        refuse_nan(losses[-1], f"the loss of step {len(losses)} ({names}…)")
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(learned, 1.0)
        refuse_nan(float(norm), f"the gradient of step {len(losses)} ({names}…)")
        state.step()
    return sum(losses) / len(losses)


def _suspects(network: Network, sample: Sample) -> Tensor:
    """Return where the map of an image is highest by now, bool [1, h, w]: its defect may be there.

    A whole image would cost many times a crop, and a crop from anywhere may show no defect.
    """
    network.eval()
    device = network.feature_mean.device
    image = torch.from_numpy(load_input(sample, network.height, network.width))[None]
    with torch.inference_mode(), mixed_precision(device):
        _, found = network.head(network.features(*network.extractor.layers(image.to(device))))
    cells: Tensor = found[0].float().cpu()  # [1, 1, h, w] -> [1, h, w]
    return cells.eq(cells.max())


def _crops(
    network: Network,
    samples: Sequence[Sample],
    flips: Sequence[int],
    truths: Truths,
    suspects: Mapping[str, Tensor],
    draws: np.random.Generator,
) -> tuple[Tensor, Truth]:
    """Crop each image somewhere, a bad one about one of its marked cells, or else of `suspects`.

    Return pixels [N, h, w, 3], float of 0 to 255, of other contrast and brightness than they had,
    and what is known of them.
    """
    pixels, known = [], []
    for sample, flip in zip(samples, flips, strict=True):
        whole = torch.from_numpy(load_input(sample, network.height, network.width))
        image = whole[None].flip(FLIP_AXES[flip])[0]
        truth = truths.batch([sample], [flip])
        marks = truth.coverage > 0
        if sample.name in suspects:
            marks = suspects[sample.name].flip(FLIP_AXES[flip])
        marked = marks[0].nonzero()  # [1, h, w] -> [M, 2]
        shown = marked[draws.integers(len(marked))].tolist() if len(marked) else [None, None]
        windows, areas = [], []
        for axis, cells in enumerate(truth.coverage.shape[1:]):
            window = _window(cells, shown[axis], network.extractor.upscale, draws)
            edge = image.shape[axis] / cells
            first = int(window.start * edge)
            windows.append(window)
            # As many pixels for each image, wherever the window lies.
            areas.append(slice(first, first + int((window.stop - window.start) * edge)))
        known.append(truth.window(*windows))
        pixels.append(_relit(image[areas[0], areas[1]].float(), draws))
    return torch.stack(pixels), Truth.join(known)


def _window(cells: int, shown: int | None, upscale: int, draws: np.random.Generator) -> slice:
    """Draw which of an axis' cells a crop has, `shown` among them; as many for each image."""
    least = 2 * upscale  # the side of a cell of layer3
    size = max(least, int(min(_CROP * upscale, _CROP_SHARE * cells)) // least * least)
    first, last = 0, cells - size
    if shown is not None:
        first, last = max(first, shown - size + 1), min(last, shown)
    start = int(draws.integers(first, last + 1))
    return slice(start, start + size)


def _relit(image: Tensor, draws: np.random.Generator) -> Tensor:
    """Return pixels [h, w, 3] of other contrast and brightness."""
    contrast, brightness = np.exp(draws.normal(0, _JITTER)), draws.normal(0, _JITTER) * 100
    mean = image.mean()
    return ((image - mean) * float(contrast) + mean + float(brightness)).clamp(0, 255)
