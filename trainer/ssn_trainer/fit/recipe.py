"""How a model is trained: the published settings, and the measured default for a small computer."""

from dataclasses import dataclass, replace
from typing import Literal

from ssn_contract.manifest import Head, Regime
from ssn_trainer.errors import UsageError
from ssn_trainer.model.heads import Adaptor
from ssn_trainer.model.network import SMOOTHING

Preset = Literal["default", "published"]
Noise = Literal["gaussian", "learned"]
MapLoss = Literal["published", "coverage"]
Schedule = Literal["published", "one-cycle"]


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
    adaptor: Adaptor
    """One layer a cell, as published, or 3 x 3, batch norm and ReLU (SuperSimpleNet-Evolved)."""
    standardise: bool
    """Standardise features per channel over the good training images."""
    noise: Noise | None
    """Latent noise on adapted features: drawn, made by a generator that is trained, or none."""
    noise_scale: float
    """Standard deviation of Gaussian noise, largest value (beta) of learned noise."""
    perlin_threshold: float
    smoothing: float
    """Standard deviation in pixels of the map's Gaussian for an input of 256 x 256."""
    map_loss: MapLoss
    """Truncated L1 and focal, cell by cell anomalous or not; or cross-entropy against coverage."""
    mask_share: float
    """Share of a cell that a mask must cover to make it anomalous; 0: any."""
    highest_share: float
    """Share of the map's cells whose mean is the lean head's score."""
    novelty_directions: int
    """Unsupervised, of the lean head: principal directions of good parts' pooled features in
    windows."""
    novelty_share: float
    """How much that term varies over good images, against the highest map values."""
    decision_shrinkage: float
    """Of the lean head's discriminant over pooled features."""
    lr_adaptor: float
    lr_heads: float
    weight_decay: float
    """On the heads; the adaptor has none."""
    schedule: Schedule
    """Rates fall by steps after 80 and 90 % of the epochs; or rise over the first 30 % of the
    steps and fall to nothing over the rest (Smith and Topin, 2019)."""
    cells: int
    """Cells of a training step, drawn from the images of a batch; 0: all of them. For heads that
    look at each cell by itself and learn from nothing but noise."""
    members: int
    """Lean heads that are trained by seeds of their own and averaged into one."""
    noise_member: bool
    """Beside the lean head that learns from labels another learns from noise over good images, as
    without labels; their maps are added, each by how well it tells the tune part apart."""
    averaging: float
    """Share of the running average of the weights that each step keeps; 0: the last weights."""
    flips: bool
    balanced: bool
    """As many bad images as good ones in each batch."""
    map_weight: float
    """Weight of the map's losses against the score's."""
    score_gamma: float
    """Focal exponent of the score's loss: 4 as published; 0 is plain cross-entropy."""
    lr_backbone: float
    """Rate of the backbone, which then learns with the head, from masks; 0: it is frozen."""
    patience: int
    """Epochs without a better tune loss after which training stops; 0: never, and no best kept."""


_PUBLISHED = Recipe(
    head=Head.SUPERSIMPLENET,
    epochs=300,
    batch=32,
    upscale=2,
    hidden=1024,
    cls_channels=128,
    adaptor="linear",
    standardise=False,
    noise="gaussian",
    noise_scale=0.015,
    perlin_threshold=0.2,
    smoothing=SMOOTHING,
    map_loss="published",
    mask_share=0.25,
    highest_share=0.004,  # 4 of 32 x 32 cells
    novelty_directions=256,
    novelty_share=0.5,
    decision_shrinkage=0.5,
    lr_adaptor=1e-4,
    lr_heads=2e-4,
    weight_decay=1e-5,
    schedule="published",
    cells=0,
    members=1,
    noise_member=False,
    averaging=0.0,
    flips=False,
    balanced=False,
    map_weight=1.0,
    score_gamma=4.0,
    lr_backbone=0.0,
    patience=0,
)

# What was measured for it, and what lost: docs/adr/0005-default-head.md.
_DEFAULT = replace(
    _PUBLISHED,
    head=Head.LEAN,
    epochs=12,
    upscale=1,
    hidden=256,
    cls_channels=64,
    standardise=True,
    noise_scale=0.25,
    lr_adaptor=5e-4,
    lr_heads=5e-4,
    weight_decay=1e-2,
    averaging=0.95,
    score_gamma=0.0,
    patience=3,
)

_LEARNED_SCALE: dict[Preset, float] = {"published": 0.05, "default": 0.5}
"""Scale of learned noise: the best of SuperSimpleNet-Evolved's four, and one to match the default's
standardised features (not measured)."""


def make_recipe(
    preset: Preset,
    head: Head | None,
    regime: Regime,
    epochs: int | None,
    batch: int | None,
    *,
    adaptor: Adaptor | None = None,
    noise: Noise | None = None,
    noise_scale: float | None = None,
) -> Recipe:
    """Return the preset for a regime, changed by what is given.

    `noise` or `noise_scale` give noise to a preset that has none for the regime. Raises UsageError
    for a head that cannot be trained in the regime, or that has no such part.
    """
    recipe = _PUBLISHED if preset == "published" else _DEFAULT
    recipe = replace(recipe, head=head or recipe.head)
    if regime is not Regime.UNSUPERVISED:
        recipe = replace(recipe, perlin_threshold=0.6, flips=True)
        if preset == "default":
            # Labels and masks teach more than noise does.
            recipe = replace(
                recipe,
                noise=None,
                # Before the lean head nothing comes between it and the next layer: they are one.
                adaptor="none" if recipe.head is Head.LEAN else "linear",
                epochs=8,
                batch=16,
                balanced=True,
                schedule="one-cycle",
                lr_heads=2e-3,
                map_weight=3.0,
                smoothing=1.2,  # wider, it blurs thin defects
                patience=5,
                noise_member=recipe.head is Head.LEAN and not (adaptor or noise or noise_scale),
            )
    elif preset == "default" and recipe.head is Head.LEAN and adaptor != "nonlinear":
        # Neighbouring cells teach the same: few from each image, and many steps. Training ends
        # before all good cells fall onto one point, which more steps lead to. What a head then sees
        # hangs on its first weights, so several are averaged.
        recipe = replace(
            recipe,
            cells=2048,
            members=3,
            epochs=3,
            schedule="one-cycle",
            lr_adaptor=2e-3,
            lr_heads=2e-3,
        )
    if preset == "default" and regime in {Regime.MIXED, Regime.FULL}:
        recipe = replace(recipe, map_loss="coverage", map_weight=20.0)
        if recipe.head is Head.LEAN and not (adaptor or noise or noise_scale):
            # A backbone that has seen the training images has none left to learn noise over.
            recipe = replace(recipe, lr_backbone=1e-4, epochs=12, patience=0, noise_member=False)
    if noise is not None or noise_scale is not None:
        default = _LEARNED_SCALE[preset] if noise == "learned" else recipe.noise_scale
        recipe = replace(recipe, noise=noise or "gaussian", noise_scale=noise_scale or default)
    if recipe.head is Head.GAP_CAM:
        _refuse_for_gap_cam(regime, adaptor, noise, noise_scale)
        recipe = replace(recipe, noise=None)
    return replace(
        recipe,
        adaptor=adaptor or recipe.adaptor,
        epochs=epochs or recipe.epochs,
        batch=batch or recipe.batch,
    )


def _refuse_for_gap_cam(
    regime: Regime, adaptor: Adaptor | None, noise: Noise | None, noise_scale: float | None
) -> None:
    if regime is not Regime.WEAK:
        msg = (
            f"head {Head.GAP_CAM.value}: learns from labelled bad images and from no mask; use "
            "--regime weak, or another --head"
        )
        raise UsageError(msg)
    options = {"--adaptor": adaptor, "--noise": noise, "--noise-scale": noise_scale}
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = f"{', '.join(given)}: head {Head.GAP_CAM.value} has neither adaptor nor noise; leave"
        raise UsageError(f"{msg} it out, or use another --head")
