"""What is to be trained."""

from dataclasses import dataclass
from pathlib import Path

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.listing import Format
from ssn_trainer.fit.recipe import Noise, Preset
from ssn_trainer.model.heads import Adaptor, Variant


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
