"""`fit` from start to end: data, features, training, bundle."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from ssn_contract.manifest import Regime
from ssn_trainer.data.images import drop_blank_masks
from ssn_trainer.data.samples import load
from ssn_trainer.data.split import Split, split
from ssn_trainer.errors import UsageError
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.decision import (
    set_decision,
    standardise,
    weigh_pooled,
)
from ssn_trainer.fit.end_to_end import train_end_to_end
from ssn_trainer.fit.features import FLIPS, FeatureStore
from ssn_trainer.fit.loop import Trained
from ssn_trainer.fit.members import add_noise_member, build_head, choose_recipe, train_members
from ssn_trainer.fit.order import Order
from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.fit.regime import choose_regime, limit_masks, visible
from ssn_trainer.measure.limits import Limits
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack.bundle import Labelled, Packed, Title, pack
from ssn_trainer.pack.report import Making
from ssn_trainer.pack.twin import TWINS, TwinName
from ssn_trainer.progress import progress

CACHE = "features"
"""Folder in the output folder for cached features; may be deleted at any time."""
_NO_LIMITS = Limits()


@dataclass(frozen=True)
class Learned:
    """A trained network, not yet packed."""

    network: Network
    regime: Regime
    recipe: Recipe
    parts: Split
    masks: int
    """How many masks of the training part were learned from."""
    trained: Trained
    checkpoints: tuple[Checkpoint, ...]
    """Where the training can be gone on with until the bundle is written."""


@dataclass(frozen=True)
class Fitted:
    """What came out of a fit."""

    packed: Packed
    regime: Regime
    data: Labelled
    masks: int
    """How many masks of the training part were learned from."""
    trained: Trained
    seconds: float


def fit(
    order: Order,
    version: str,
    console: Console,
    *,
    limits: Limits = _NO_LIMITS,
    half_weights: bool = False,
    twins: Sequence[TwinName] = TWINS,
) -> Fitted:
    """Train a model and write its bundle into `order.out`; progress goes to `console`.

    `limits` are for the threshold; without any it is that of the best F1. `half_weights` stores the
    weights as float16: half the size, other scores in the fourth digit. `twins`: as in `pack`.

    Raises DataError, WeightsError, UsageError, TrainingError, PackError and the agent's errors.
    """
    start = time.monotonic()
    with console.status(f"reading {order.data}"):
        dataset = load(order.data, order.group_by, order.format)
        parts = split(dataset, order.seed)
    for note in dataset.notes:
        console.print(f"data: {note}")
    learned = learn(order, parts, console)
    data = Labelled(dataset, learned.parts, order.seed)
    with progress(console, "judging", None) as advance:
        packed = pack(
            learned.network,
            Title(order.name, version, learned.regime, order.backbone),
            data,
            order.out,
            limits=limits,
            making=Making(_settings(order, learned), time.monotonic() - start),
            half_weights=half_weights,
            twins=twins,
            advance=advance,
        )
    console.print(f"threshold: {packed.chosen.method}")
    for remark in packed.remarks:
        console.print(remark)
    for checkpoint in learned.checkpoints:
        checkpoint.remove()
    seconds = time.monotonic() - start
    return Fitted(packed, learned.regime, data, learned.masks, learned.trained, seconds)


def learn(order: Order, parts: Split, console: Console) -> Learned:
    """Train a network on two parts, or go on with a training that was cut off.

    Raises as `fit` does.
    """
    device = choose_device(order.device)
    make_folder(order.out)
    with console.status("opening masks"):
        parts, blank = _open_masks(parts, order.regime)
    if blank:
        console.print(f"{len(blank)} masks mark nothing, as that of {blank[0]}: counted as no mask")
    shown = limit_masks(parts, order.masks, order.seed)
    regime, word = choose_regime(order.regime, order.head, order.masks, shown)
    console.print(word)
    seen = visible(shown, regime)
    recipe = choose_recipe(order, regime)
    network = build_network(order, recipe, regime).to(device)
    cache = order.out / CACHE
    store = FeatureStore(network.extractor, cache, order.height, order.width, device)
    if recipe.lr_backbone:
        trained, checkpoints = train_end_to_end(
            network, store, seen, regime, recipe, order, console
        )
        # Of the backbone as it is now: other weights, another folder.
        store = FeatureStore(network.extractor, cache, order.height, order.width, device)
        _fill(store, seen, recipe, console)
    else:
        _fill(store, seen, recipe, console)
        if recipe.standardise:
            standardise(network, store, [s for s in seen.train if s.label == "good"])
        trained, checkpoints = train_members(network, store, seen, regime, recipe, order, console)
        if recipe.noise_member:
            checkpoints += add_noise_member(network, store, seen, recipe, order, console)
    set_decision(network, store, seen.train, recipe)
    weigh_pooled(network, store, seen.tune, recipe, console.print)
    if recipe.lr_backbone:
        store.remove()  # no other fit has this backbone
    masks = sum(s.mask is not None for s in seen.train)
    return Learned(network, regime, recipe, parts, masks, trained, checkpoints)


def _fill(store: FeatureStore, seen: Split, recipe: Recipe, console: Console) -> None:
    images = len(seen.train) * (FLIPS if recipe.flips else 1) + len(seen.tune)
    with progress(console, "features", images) as advance:
        store.fill(seen.train, flips=recipe.flips, advance=advance)
        store.fill(seen.tune, flips=False, advance=advance)


def _settings(order: Order, learned: Learned) -> dict[str, object]:
    """Return what the report says of how the model was trained."""
    return {
        "preset": order.preset,
        "weights": Path(order.weights).name,
        "device": learned.network.feature_mean.device.type,
        **{name: value for name, value in asdict(learned.recipe).items() if name != "head"},
        "masks": learned.masks,
        "epochs trained": learned.trained.epochs,
        "best epoch": learned.trained.best_epoch,
    }


def _open_masks(parts: Split, regime: Regime | None) -> tuple[Split, tuple[str, ...]]:
    """Check the masks that will be opened: of the test part, and of what the regime may see.

    Return the parts without blank masks, and whose those were. Raises DataError.
    """
    test, blank = drop_blank_masks(parts.test)
    if regime in {Regime.UNSUPERVISED, Regime.WEAK}:
        return replace(parts, test=test), blank
    train, blank_train = drop_blank_masks(parts.train)
    tune, blank_tune = drop_blank_masks(parts.tune)
    return Split(train, tune, test), (*blank, *blank_train, *blank_tune)


def build_network(order: Order, recipe: Recipe, regime: Regime) -> Network:
    """Build the untrained network; the head's first weights come from the seed."""
    backbone = build_backbone(order.backbone, order.weights, order.seed)
    extractor = Extractor(backbone, recipe.upscale)
    head = build_head(order, recipe, regime, extractor.channels, order.seed)
    network = Network(extractor, head, order.height, order.width, recipe.smoothing)
    # Channels last is the faster order on CPUs and GPUs alike; results are the same.
    return network.to(memory_format=torch.channels_last)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one. Raises UsageError."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        msg = "--device cuda: torch finds no CUDA device here; use --device cpu"
        raise UsageError(msg)
    return torch.device(name)


def make_folder(out: Path) -> None:
    """Make the folder that `--out` names. Raises UsageError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {out}: cannot be made ({error.strerror}); give a folder that can be written"
        raise UsageError(msg) from error
