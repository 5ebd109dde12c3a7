"""The heads that a recipe wants trained, and how they become one."""

import hashlib
from dataclasses import asdict, replace

import torch
from rich.console import Console

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.data.split import Split
from ssn_trainer.errors import UsageError
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.decision import too_few, weigh_noise_member
from ssn_trainer.fit.features import FeatureStore
from ssn_trainer.fit.loop import Trained, train
from ssn_trainer.fit.order import Order
from ssn_trainer.fit.recipe import Recipe, make_recipe
from ssn_trainer.fit.regime import visible
from ssn_trainer.model.heads import AnyHead, GapCamHead, LeanHead, SuperSimpleNetHead, sum_head
from ssn_trainer.model.network import Network
from ssn_trainer.progress import progress


def train_members(
    network: Network,
    store: FeatureStore,
    seen: Split,
    regime: Regime,
    recipe: Recipe,
    order: Order,
    console: Console,
    kind: str = "",
) -> tuple[Trained, tuple[Checkpoint, ...]]:
    """Train the recipe's members, each by a seed of its own; the network gets their mean.

    `kind` is said before what is reported of each. Epochs are those of the longest training.
    Raises as `train` does.
    """
    heads, trained, checkpoints = [], [], []
    decided = deciding(order, recipe, regime, store, seen)
    with progress(console, "training", recipe.members * recipe.epochs) as advance:
        for member in range(recipe.members):
            which = f"{kind}{member + 1} of {recipe.members}, " if recipe.members > 1 else kind

            def report(epoch: int, loss: float, tune_loss: float, which: str = which) -> None:
                advance(1)
                console.print(f"{which}epoch {epoch}: loss {loss:.4f}, tune loss {tune_loss:.4f}")

            seed = order.seed * recipe.members + member
            network.head = build_head(order, recipe, regime, network.extractor.channels, seed)
            network.to(store.device).to(memory_format=torch.channels_last)
            number = f".{member + 1}" if recipe.members > 1 else ""
            path = order.out / f"{order.name}{number}.checkpoint.safetensors"
            checkpoint = Checkpoint(path, {**decided, "member": member}, console.print)
            if order.fresh:
                checkpoint.remove()
            trained.append(train(network, store, seen, regime, recipe, seed, checkpoint, report))
            heads.append(network.head)
            checkpoints.append(checkpoint)
    if len(heads) > 1:
        leans = [head for head in heads if isinstance(head, LeanHead)]
        network.head = sum_head(leans, [1 / len(leans)] * len(leans))
    return max(trained, key=lambda one: one.epochs), tuple(checkpoints)


def add_noise_member(
    network: Network,
    store: FeatureStore,
    seen: Split,
    recipe: Recipe,
    order: Order,
    console: Console,
) -> tuple[Checkpoint, ...]:
    """Train a map from noise over good images, and add it to the network's, learned from labels.

    Labels teach the defects that were seen, noise whatever is unlike good parts. Where the tune
    part is too small to say what each is worth, none is trained, and the console is told. Raises
    as `train` does.
    """
    problem = too_few(seen.tune, "the map is that from labels alone, without one from noise")
    if problem:
        console.print(problem)
        return ()
    labelled = network.head
    alone = choose_recipe(order, Regime.UNSUPERVISED)
    alone = replace(alone, members=1, epochs=min(alone.epochs, recipe.epochs))
    good = visible(seen, Regime.UNSUPERVISED)
    named = replace(order, name=f"{order.name}.noise")  # no bundle's name has a dot
    _, checkpoints = train_members(
        network, store, good, Regime.UNSUPERVISED, alone, named, console, "from noise, "
    )
    noise_head, network.head = network.head, labelled
    if isinstance(labelled, LeanHead) and isinstance(noise_head, LeanHead):
        weight = weigh_noise_member(network, store, seen.tune, labelled, noise_head)
        console.print(f"the map from noise counts {weight:.2f} beside that from labels")
        if weight > 0:
            network.head = sum_head([labelled, noise_head], [1.0, weight])
    return checkpoints


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


def deciding(
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
