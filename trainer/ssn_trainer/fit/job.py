"""`fit` from start to end: data, features, training, bundle."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.images import check_masks
from ssn_trainer.data.listing import Format
from ssn_trainer.data.samples import load
from ssn_trainer.data.split import Split, split
from ssn_trainer.errors import DataError, UsageError
from ssn_trainer.fit.features import FLIPS, FeatureStore
from ssn_trainer.fit.loop import Trained, set_decision, standardise, train
from ssn_trainer.fit.recipe import Preset, Recipe, make_recipe
from ssn_trainer.measure.limits import Limits
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import AnyHead, GapCamHead, LeanHead, SuperSimpleNetHead, Variant
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack.bundle import Labelled, Packed, Title, pack
from ssn_trainer.pack.report import Making

CACHE = "features"
"""Folder in the output folder for cached features; may be deleted at any time."""


@dataclass(frozen=True)
class Order:
    """What is to be fitted: the options of `ssn-trainer fit`."""

    data: Path
    out: Path
    name: str
    version: str
    regime: Regime | None
    """None: weak where the training part has bad images, else unsupervised."""
    head: Head | None = None
    """None: the preset's."""
    variant: Variant | None = None
    """None: jims. For the published classification head; the others have none."""
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
    limits: Limits = field(default_factory=Limits)
    """For the threshold; without any it is that of the best F1."""
    half_weights: bool = False
    """Store the weights as float16: half the size, other scores in the fourth digit. The report's
    pictures are small then, too."""


@dataclass(frozen=True)
class Fitted:
    """What came out of a fit."""

    packed: Packed
    regime: Regime
    data: Labelled
    trained: Trained
    seconds: float


def fit(order: Order, console: Console) -> Fitted:
    """Train a model and write its bundle into `order.out`; progress goes to `console`.

    Raises DataError, WeightsError, UsageError, TrainingError, PackError and the agent's errors.
    """
    start = time.monotonic()
    device = choose_device(order.device)
    _make_folder(order.out)
    with console.status(f"reading {order.data}"):
        dataset = load(order.data, order.group_by, order.format)
        parts = split(dataset, order.seed)
        check_masks(parts.test)
    for note in dataset.notes:
        console.print(f"data: {note}")
    regime = choose_regime(order.regime, parts, console)
    recipe = make_recipe(order.preset, order.head, regime, order.epochs, order.batch)
    if order.variant and recipe.head is not Head.SUPERSIMPLENET:
        msg = (
            f"--variant {order.variant}: says what the published classification head sees; use it "
            f"with --head {Head.SUPERSIMPLENET.value}, or leave it out"
        )
        raise UsageError(msg)
    learned = _learned(parts, regime)
    network = build_network(order, recipe, regime).to(device)
    store = FeatureStore(network.extractor, order.out / CACHE, order.height, order.width, device)
    images = len(learned.train) * (FLIPS if recipe.flips else 1) + len(learned.tune)
    with _progress(console, "features", images) as advance:
        store.fill(learned.train, flips=recipe.flips, advance=advance)
        store.fill(learned.tune, flips=False, advance=advance)
    if recipe.standardise:
        standardise(network, store, [s for s in learned.train if s.label == "good"])
    set_decision(network, store, learned.train)
    with _progress(console, "training", recipe.epochs) as advance:

        def report(epoch: int, loss: float, tune_loss: float) -> None:
            advance(1)
            console.print(f"epoch {epoch}: loss {loss:.4f}, tune loss {tune_loss:.4f}")

        trained = train(
            network, store, learned.train, learned.tune, regime, recipe, order.seed, report
        )
    labelled = Labelled(dataset, parts, order.seed)
    title = Title(order.name, order.version, regime, order.backbone)
    with _progress(console, "judging", None) as advance:
        packed = pack(
            network,
            title,
            labelled,
            order.out,
            limits=order.limits,
            making=Making(
                {
                    "preset": order.preset,
                    "weights": Path(order.weights).name,
                    "device": device.type,
                    **{n: v for n, v in asdict(recipe).items() if n != "head"},
                    "epochs trained": trained.epochs,
                    "best epoch": trained.best_epoch,
                },
                time.monotonic() - start,
            ),
            half_weights=order.half_weights,
            advance=advance,
        )
    console.print(f"threshold: {packed.chosen.method}")
    for remark in packed.remarks:
        console.print(remark)
    return Fitted(packed, regime, labelled, trained, time.monotonic() - start)


def build_network(order: Order, recipe: Recipe, regime: Regime) -> Network:
    """Build the untrained network; the head's first weights come from the seed."""
    backbone = build_backbone(order.backbone, order.weights, order.seed)
    extractor = Extractor(backbone, recipe.upscale)
    torch.manual_seed(order.seed)
    head: AnyHead
    if recipe.head is Head.GAP_CAM:
        head = GapCamHead(extractor.channels, recipe.cls_channels)
    elif recipe.head is Head.LEAN:
        head = LeanHead(extractor.channels, recipe.hidden, labels=regime is Regime.WEAK)
    else:
        variant = order.variant or "jims"
        head = SuperSimpleNetHead(extractor.channels, recipe.hidden, recipe.cls_channels, variant)
    network = Network(extractor, head, order.height, order.width)
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


def choose_regime(wanted: Regime | None, parts: Split, console: Console) -> Regime:
    """Return the regime that is wanted, or without one what the data allow; says which.

    Raises DataError for weak where train or tune part has no bad image.
    """
    bad = [sum(s.label == "bad" for s in part) for part in (parts.train, parts.tune)]
    if wanted is None:
        chosen = Regime.WEAK if all(bad) else Regime.UNSUPERVISED
        console.print(
            f"regime: {chosen.value} (bad images to train on: {bad[0]}, to tune on: {bad[1]})"
        )
        return chosen
    if wanted is Regime.WEAK and not all(bad):
        msg = (
            "regime weak: there are no bad images to train and tune on; add bad images outside of "
            "the test part, or use --regime unsupervised"
        )
        raise DataError(msg)
    return wanted


def _learned(parts: Split, regime: Regime) -> Split:
    """Return what the regime learns from: without masks, and unsupervised without bad images."""
    train_part, tune_part = parts.train, parts.tune
    if regime is Regime.UNSUPERVISED:
        train_part = tuple(s for s in train_part if s.label == "good")
        tune_part = tuple(s for s in tune_part if s.label == "good")
    return Split(
        tuple(replace(s, mask=None) for s in train_part),
        tuple(replace(s, mask=None) for s in tune_part),
        (),
    )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {out}: cannot be made ({error.strerror}); give a folder that can be written"
        raise UsageError(msg) from error


@contextmanager
def _progress(console: Console, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
