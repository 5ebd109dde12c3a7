"""`fit` from start to end: data, features, training, bundle."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.images import drop_blank_masks
from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.data.split import Split, split
from ssn_trainer.errors import UsageError
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.decision import set_decision, standardise, weigh_pooled
from ssn_trainer.fit.features import FLIPS, FeatureStore
from ssn_trainer.fit.loop import Trained, train
from ssn_trainer.fit.recipe import Noise, Preset, Recipe, make_recipe
from ssn_trainer.fit.regime import choose_regime, limit_masks, visible
from ssn_trainer.measure.limits import Limits
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import (
    Adaptor,
    AnyHead,
    GapCamHead,
    LeanHead,
    SuperSimpleNetHead,
    Variant,
    mean_head,
)
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
class Order:
    """What is to be trained: the options that `fit` and `crossval` share."""

    data: Path
    out: Path
    name: str
    regime: Regime | None
    """None: full, mixed, weak or unsupervised, by what train and tune part hold."""
    head: Head | None = None
    """None: the preset's."""
    variant: Variant | None = None
    """None: jims. For the published classification head; the others have none."""
    adaptor: Adaptor | None = None
    """None: the preset's, as with noise and its scale."""
    noise: Noise | None = None
    noise_scale: float | None = None
    masks: int | None = None
    """Most masks of the training part that may be seen; None: all."""
    preset: Preset = "default"
    backbone: str = "resnet18"
    weights: str = "auto"
    height: int = 256
    width: int = 256
    epochs: int | None = None
    batch: int | None = None
    seed: int = 0
    device: str = "auto"
    group_by: str | None = None
    format: Format = "auto"
    fresh: bool = False
    """Begin anew, though an earlier run of the same order could be gone on with."""


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
    store = FeatureStore(network.extractor, order.out / CACHE, order.height, order.width, device)
    images = len(seen.train) * (FLIPS if recipe.flips else 1) + len(seen.tune)
    with progress(console, "features", images) as advance:
        store.fill(seen.train, flips=recipe.flips, advance=advance)
        store.fill(seen.tune, flips=False, advance=advance)
    if recipe.standardise:
        standardise(network, store, [s for s in seen.train if s.label == "good"])
    trained, checkpoints = _train_members(network, store, seen, regime, recipe, order, console)
    set_decision(network, store, seen.train, recipe)
    weigh_pooled(network, store, seen.tune, recipe, console.print)
    masks = sum(s.mask is not None for s in seen.train)
    return Learned(network, regime, recipe, parts, masks, trained, checkpoints)


def _train_members(
    network: Network,
    store: FeatureStore,
    seen: Split,
    regime: Regime,
    recipe: Recipe,
    order: Order,
    console: Console,
) -> tuple[Trained, tuple[Checkpoint, ...]]:
    """Train the recipe's members, each by a seed of its own; the network gets their mean.

    Epochs are those of the longest training, the tune loss is the mean. Raises as `train` does.
    """
    heads, trained, checkpoints = [], [], []
    deciding = _deciding(order, recipe, regime, store, seen)
    with progress(console, "training", recipe.members * recipe.epochs) as advance:
        for member in range(recipe.members):
            which = f"{member + 1} of {recipe.members}, " if recipe.members > 1 else ""

            def report(epoch: int, loss: float, tune_loss: float, which: str = which) -> None:
                advance(1)
                console.print(f"{which}epoch {epoch}: loss {loss:.4f}, tune loss {tune_loss:.4f}")

            seed = order.seed * recipe.members + member
            network.head = build_head(order, recipe, regime, network.extractor.channels, seed)
            network.to(store.device).to(memory_format=torch.channels_last)
            number = f".{member + 1}" if recipe.members > 1 else ""
            path = order.out / f"{order.name}{number}.checkpoint.safetensors"
            checkpoint = Checkpoint(path, {**deciding, "member": member}, console.print)
            if order.fresh:
                checkpoint.remove()
            trained.append(train(network, store, seen, regime, recipe, seed, checkpoint, report))
            heads.append(network.head)
            checkpoints.append(checkpoint)
    if len(heads) > 1:
        network.head = mean_head([head for head in heads if isinstance(head, LeanHead)])
    losses = [one.tune_loss for one in trained]
    longest = max(trained, key=lambda one: one.epochs)
    return replace(longest, tune_loss=sum(losses) / len(losses)), tuple(checkpoints)


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


def choose_recipe(order: Order, regime: Regime) -> Recipe:
    """Return the settings that an order means. Raises UsageError for those that do not combine."""
    recipe = make_recipe(
        order.preset,
        order.head,
        regime,
        order.epochs,
        order.batch,
        adaptor=order.adaptor,
        noise=order.noise,
        noise_scale=order.noise_scale,
    )
    if order.variant and recipe.head is not Head.SUPERSIMPLENET:
        msg = (
            f"--variant {order.variant}: says what the published classification head sees; use it "
            f"with --head {Head.SUPERSIMPLENET.value}, or leave it out"
        )
        raise UsageError(msg)
    return recipe


def build_network(order: Order, recipe: Recipe, regime: Regime) -> Network:
    """Build the untrained network; the head's first weights come from the seed."""
    backbone = build_backbone(order.backbone, order.weights, order.seed)
    extractor = Extractor(backbone, recipe.upscale)
    head = build_head(order, recipe, regime, extractor.channels, order.seed)
    network = Network(extractor, head, order.height, order.width, recipe.smoothing)
    # Channels last is the faster order on CPUs and GPUs alike; results are the same.
    return network.to(memory_format=torch.channels_last)


def build_head(order: Order, recipe: Recipe, regime: Regime, channels: int, seed: int) -> AnyHead:
    """Build an untrained head for merged features of so many channels."""
    torch.manual_seed(seed)
    if recipe.head is Head.GAP_CAM:
        return GapCamHead(channels, recipe.cls_channels)
    if recipe.head is Head.LEAN:
        return LeanHead(
            channels,
            recipe.hidden,
            recipe.highest_share,
            recipe.adaptor,
            labels=regime is not Regime.UNSUPERVISED,
            directions=recipe.novelty_directions,
        )
    variant = order.variant or "jims"
    return SuperSimpleNetHead(channels, recipe.hidden, recipe.cls_channels, variant, recipe.adaptor)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one. Raises UsageError."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        msg = "--device cuda: torch finds no CUDA device here; use --device cpu"
        raise UsageError(msg)
    return torch.device(name)


def _deciding(
    order: Order, recipe: Recipe, regime: Regime, store: FeatureStore, seen: Split
) -> dict[str, object]:
    """Return all that decides the outcome of a training, as JSON takes it."""

    def listed(samples: tuple[Sample, ...]) -> list[tuple[str, str, str, str]]:
        return [(s.name, s.digest, s.label, mask_digest(s)) for s in samples]

    def mask_digest(sample: Sample) -> str:
        return hashlib.sha256(sample.mask.read_bytes()).hexdigest() if sample.mask else ""

    return {
        "recipe": asdict(recipe),
        "variant": order.variant,
        "regime": regime.value,
        "seed": order.seed,
        "features": store.key,
        "train": listed(seen.train),
        "tune": listed(seen.tune),
        "torch": torch.__version__,
    }


def make_folder(out: Path) -> None:
    """Make the folder that `--out` names. Raises UsageError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {out}: cannot be made ({error.strerror}); give a folder that can be written"
        raise UsageError(msg) from error
