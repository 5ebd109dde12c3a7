"""A cut that keeps to stated limits of false rejects and of escapes, and what supports it.

The unit is the part, not the photograph: photographs of one part are not independent, and a bound
that counted each of them would claim too much. A good part is falsely rejected when any of its good
images is; a bad part escapes when any of its bad images passes. So of a part's good images the
highest score counts, of its bad images the lowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_contract.manifest import RateLimit, Threshold
from ssn_trainer.errors import UsageError
from ssn_trainer.measure.bounds import images_needed, upper_bound

Scores = NDArray[np.float64]

LEAST_LIMIT = 1e-6
"""No line has the three million images that a lower one takes."""


@dataclass(frozen=True)
class Limits:
    """Shares of good parts that may be rejected and of bad parts that may pass; None: not stated.

    Raises UsageError for what is no such share.
    """

    false_reject: float | None = None
    escape: float | None = None

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-false-reject", self.false_reject),
            ("--max-escape", self.escape),
        ):
            if value is not None and not LEAST_LIMIT <= value < 1:
                msg = (
                    f"{option} {value:g}: give a share from {LEAST_LIMIT:f} to below 1, as 0.01 "
                    "for one part in 100"
                )
                raise UsageError(msg)

    def __bool__(self) -> bool:
        return self.false_reject is not None or self.escape is not None


@dataclass(frozen=True)
class Cut:
    """A raw threshold and the parts on its wrong side."""

    threshold: float
    rejected: int
    """Good parts at or above it."""
    passed: int
    """Bad parts with an image below it."""


def of_parts(scores: Scores, groups: Sequence[str] | None, *, highest: bool) -> Scores:
    """Return the highest or the lowest score of each part [parts]; groups None: each its own."""
    if groups is None:
        return scores
    names, part = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    found = np.full(names.size, -np.inf if highest else np.inf)
    (np.maximum if highest else np.minimum).at(found, part, scores)
    return found


def best_cut(good: Scores, bad: Scores, limits: Limits, top: float) -> Cut:
    """Choose among the cuts between neighbouring scores of parts, [N] good and [M] bad ones.

    In this order: as many limits supported as can be, that of escapes before that of false rejects;
    what is not supported, as little above its limit as can be; the fewest errors of the kind that
    no limit was stated for (without bad parts: the lowest cut); the fewest errors; the widest gap.
    `top` is the cut above all scores.

    Each bound holds for the cut that just keeps the limit, however the scores fell: how many errors
    are allowed follows from the number of parts alone (Wilks, Annals of Mathematical Statistics 12,
    1941). A cut past that one has no more errors.
    """
    values = np.unique(np.concatenate([good, bad]))
    gaps = np.diff(values, prepend=values[0], append=top)
    cuts = np.append(values, top) - gaps / 2
    cuts[-1] = top
    rejected = good.size - np.searchsorted(np.sort(good), cuts)
    passed = np.searchsorted(np.sort(bad), cuts)
    excess = [
        _excess(rejected, good.size, limits.false_reject),
        _excess(passed, bad.size, limits.escape),
    ]
    rates = [rejected / good.size, passed / bad.size if bad.size else cuts - cuts[0]]
    stated = (limits.false_reject, limits.escape if bad.size else None)
    free = sum(rate for rate, limit in zip(rates, stated, strict=True) if limit is None)
    keys = (
        (excess[0] > 1).astype(int) + (excess[1] > 1),
        excess[1] > 1,
        excess[0] + excess[1],
        free + np.zeros(cuts.size),
        rates[0] + rates[1],
        -gaps,
    )
    best = np.lexsort(keys[::-1])[0]
    return Cut(float(cuts[best]), int(rejected[best]), int(passed[best]))


def rate_limit(limit: float, errors: int, parts: int) -> RateLimit:
    """Return what `errors` of `parts` say of a limit, by counting."""
    if not parts:
        return RateLimit(limit=limit, parts=0, supported=False, images_needed=images_needed(limit))
    bound = float(upper_bound(errors, parts))
    supported = bound <= limit
    return RateLimit(
        limit=limit,
        parts=parts,
        observed=errors / parts,
        upper_bound=bound,
        supported=supported,
        images_needed=None if supported else images_needed(limit, errors / parts),
    )


def unsupported(chosen: Threshold) -> tuple[str, ...]:
    """Return a sentence for each stated limit that the tune part does not support."""
    kinds = (
        ("max-false-reject", "good", chosen.false_reject),
        ("max-escape", "bad", chosen.escape),
    )
    return tuple(
        f"--{option} {found.limit:g} is not supported by the tune part: {_shown(found, kind)}; "
        f"{_wanted(found, kind)}"
        for option, kind, found in kinds
        if found is not None and not found.supported
    )


def _excess(errors: NDArray[np.intp], parts: int, limit: float | None) -> Scores:
    """How many times the bound exceeds the limit; 1 where it does not, or there is no limit."""
    if limit is None or not parts:
        return np.ones(errors.shape)
    return np.maximum(1, upper_bound(errors, parts) / limit)


def _shown(found: RateLimit, kind: str) -> str:
    if found.observed is None or found.upper_bound is None:
        return f"it has no {kind} part"
    errors = round(found.observed * found.parts)
    return (
        f"{errors} of its {found.parts} {kind} parts are judged wrongly, which shows a rate below "
        f"{found.upper_bound:.3g} (95 % confidence) and no more"
    )


def _wanted(found: RateLimit, kind: str) -> str:
    if found.images_needed is None:
        return "more images alone will not do: the model must tell good from bad better"
    how = "none" if not found.observed else f"a share of {found.observed:.3g}"
    return f"it takes {found.images_needed} {kind} parts there, {how} of them judged wrongly"
