"""How a model is trained: the published settings, and the measured default for a small computer."""

from dataclasses import dataclass, replace
from typing import Literal

from ssn_contract.manifest import Head, Regime
from ssn_trainer.errors import UsageError

Preset = Literal["default", "published"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained, but for the data, the backbone and the seed."""

    head: Head
    epochs: int
    batch: int
    upscale: int
    """Feature grid over layer2's own size: 2 as published."""
    hidden: int
    """Channels between the two layers of the segmentation head."""
    cls_channels: int
    """Channels of the convolution in the classification head, and in GAP+CAM."""
    standardise: bool
    """Standardise features per channel over the good training images."""
    sigma: float
    """Standard deviation of the latent noise on adapted features; 0: no noise."""
    perlin_threshold: float
    lr_adaptor: float
    lr_heads: float
    weight_decay: float
    """On the heads; the adaptor has none."""
    averaging: float
    """Share of the running average of the weights that each step keeps; 0: the last weights."""
    flips: bool
    map_weight: float
    """Weight of the map's losses against the score's."""
    score_gamma: float
    """Focal exponent of the score's loss: 4 as published; 0 is plain cross-entropy."""
    patience: int
    """Epochs without a better tune loss after which training stops; 0: never, and no best kept."""


_PUBLISHED = Recipe(
    head=Head.SUPERSIMPLENET,
    epochs=300,
    batch=32,
    upscale=2,
    hidden=1024,
    cls_channels=128,
    standardise=False,
    sigma=0.015,
    perlin_threshold=0.2,
    lr_adaptor=1e-4,
    lr_heads=2e-4,
    weight_decay=1e-5,
    averaging=0.0,
    flips=False,
    map_weight=1.0,
    score_gamma=4.0,
    patience=0,
)

# Measured on two cores in minutes: features standardised, noise to match, layer2's own grid.
_DEFAULT = replace(
    _PUBLISHED,
    head=Head.LEAN,
    epochs=12,
    upscale=1,
    hidden=256,
    cls_channels=64,
    standardise=True,
    sigma=0.25,
    lr_adaptor=5e-4,
    lr_heads=5e-4,
    weight_decay=1e-2,
    averaging=0.95,
    score_gamma=0.0,
    patience=3,
)


def make_recipe(
    preset: Preset, head: Head | None, regime: Regime, epochs: int | None, batch: int | None
) -> Recipe:
    """Return the preset for a regime, with `head`, `epochs` and `batch` where they are given.

    Raises UsageError for a regime that is not available, or that the head cannot be trained in.
    """
    if regime in {Regime.MIXED, Regime.FULL}:
        msg = f"regime {regime.value}: not available in this version; use weak or unsupervised"
        raise UsageError(msg)
    if head is Head.GAP_CAM and regime is not Regime.WEAK:
        msg = f"head {head.value}: learns from bad images; use --regime weak, or another --head"
        raise UsageError(msg)
    recipe = _PUBLISHED if preset == "published" else _DEFAULT
    recipe = replace(recipe, head=head or recipe.head)
    if regime is Regime.WEAK:
        recipe = replace(recipe, perlin_threshold=0.6, flips=True)
        if preset == "default":
            # Labels teach more than noise does, in half the time.
            recipe = replace(recipe, sigma=0.0, map_weight=0.3, epochs=6)
    return replace(recipe, epochs=epochs or recipe.epochs, batch=batch or recipe.batch)
