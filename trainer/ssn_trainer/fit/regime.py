"""Which regime a fit trains in, and what of the data that regime may see."""

import random
from dataclasses import replace

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.data.split import Split
from ssn_trainer.errors import DataError, UsageError

_WITH_MASKS = frozenset({Regime.MIXED, Regime.FULL})


def choose_regime(
    wanted: Regime | None, head: Head | None, masks: int | None, parts: Split
) -> tuple[Regime, str]:
    """Return the regime that is wanted, or without one what the data allow, and a word on why.

    `parts` as `limit_masks` returns them for `masks`. Raises DataError where the train and tune
    parts cannot be trained on so, UsageError where `masks` is given and the regime sees none.
    """
    bad = [s for s in parts.train if s.label == "bad"]
    bad_tune = [s for s in parts.tune if s.label == "bad"]
    masked = [s for s in bad if s.mask is not None]
    counts = (
        f"bad images to train on: {len(bad)}, {len(masked)} of them with masks; "
        f"to tune on: {len(bad_tune)}"
    )
    whole = len(masked) == len(bad) and (masks is not None or all(s.mask for s in bad_tune))
    if wanted is None:
        if not (bad and bad_tune):
            chosen = Regime.UNSUPERVISED
        elif head is Head.GAP_CAM or not masked:  # GAP+CAM learns from no mask
            chosen = Regime.WEAK
        else:
            chosen = Regime.FULL if whole else Regime.MIXED
        return chosen, f"regime: {chosen.value} ({counts})"
    if masks is not None and wanted not in _WITH_MASKS:
        msg = f"--masks {masks}: regime {wanted.value} opens no mask; leave --masks out, or use"
        raise UsageError(f"{msg} --regime mixed")
    if wanted is not Regime.UNSUPERVISED and not (bad and bad_tune):
        msg = (
            f"regime {wanted.value}: there are no bad images to train and tune on; add bad images "
            "outside of the test part, or use --regime unsupervised"
        )
        raise DataError(msg)
    if wanted is Regime.MIXED and not masked:
        msg = "regime mixed: no bad image to train on has a mask; add some, or use --regime weak"
        raise DataError(msg)
    if wanted is Regime.FULL and len(masked) < len(bad):
        without = next(s for s in bad if s.mask is None)
        msg = (
            f"regime full: {len(bad) - len(masked)} of {len(bad)} bad images to train on have no "
            f"mask, as {without.name}; add the masks, or use --regime mixed"
        )
        raise DataError(msg)
    return wanted, f"regime: {wanted.value} ({counts})"


def limit_masks(parts: Split, masks: int | None, seed: int) -> Split:
    """Hide all masks but `masks` of the training part, as if no more had been drawn.

    Which ones the seed says, image groups whole as far as that goes; a larger number shows the
    smaller one's too. The tune part then shows none. None: all are shown.
    """
    if masks is None:
        return parts
    groups = sorted({s.group for s in parts.train if s.mask is not None})
    random.Random(seed).shuffle(groups)  # noqa: S311 -- a reproducible draw, no secret
    masked = [s for g in groups for s in parts.train if s.group == g and s.mask is not None]
    shown = {s.name for s in masked[:masks]}
    train = tuple(s if s.name in shown else replace(s, mask=None) for s in parts.train)
    return replace(parts, train=train, tune=_unmasked(parts.tune))


def visible(parts: Split, regime: Regime) -> Split:
    """Return what the regime learns from: no masks before mixed, no bad images unsupervised."""
    train, tune = parts.train, parts.tune
    if regime not in _WITH_MASKS:
        train, tune = _unmasked(train), _unmasked(tune)
    if regime is Regime.UNSUPERVISED:
        train = tuple(s for s in train if s.label == "good")
        tune = tuple(s for s in tune if s.label == "good")
    return Split(train, tune, ())


def _unmasked(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    return tuple(replace(s, mask=None) for s in samples)
