"""What speaks for a bundle and against it: figures and tests of them, no I/O here.

Three questions, asked at three times:

1. In shadow: would it have judged the frames that the one in force judges as that one did? That
   they differ says nothing of which is right, so it is told and refuses nothing.
2. On the station's own labelled images: is it wrong more often than the one in force? An exact
   one-sided sign test over the images of which just one of the two is right: where a bundle no
   worse than the other would do so badly in one of ten cases at most, it is refused.
3. On probation: has the line got worse since it judges? INVALID and times are compared with what
   was before the swap, FAIL with what its own shadow had foreseen: that a better bundle fails other
   parts than the one before is what it is for. A share counts as changed where the change is beyond
   its bound and beyond three standard deviations of chance.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from statistics import median

from pydantic import BaseModel, ConfigDict

from ssn_agent.updates.settings import UpdateSettings
from ssn_agent.updates.state import Figures, Tally

LOSES_AT = 0.1
"""The sign test's p from which down a bundle is refused."""
MIN_FRAMES = 20
"""Of a shadow and of a probation: fewer say nothing."""
MIN_COMPARED = 30
"""Parts on either side before a share or a time is compared."""
MIN_LATE = 2
"""One late part may be the disk's or the system's doing."""
LATENCY_SHARE = 0.1
"""Of the deadline: a shorter time is no harm, however many times it has grown."""
SIGMAS = 3.0


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Live(_Model):
    """Frames that both bundles have judged."""

    frames: int
    failed: int = 0
    """What it would have failed of them."""
    pass_to_fail: int = 0
    """The one in force passed these, the other would have failed them."""
    fail_to_pass: int = 0
    unfit: int = 0
    """It would not have judged these pictures: unlike its good images."""
    mean_difference: float = 0.0
    """Of the calibrated scores."""
    largest_difference: float = 0.0
    median_ms: float = 0.0

    @property
    def disagreement(self) -> float:
        """Return the share of frames that the two see otherwise."""
        other = self.pass_to_fail + self.fail_to_pass + self.unfit
        return other / self.frames if self.frames else 0.0


class Own(_Model):
    """The station's own labelled images, as both bundles judge them."""

    images: int
    left_out: int = 0
    """One of the two was trained or tuned on these."""
    right: int = 0
    right_before: int = 0
    better: int = 0
    """Images that it judges rightly and the one in force does not."""
    worse: int = 0
    """The other way round."""
    auroc: float | None = None
    auroc_before: float | None = None

    @property
    def p(self) -> float:
        """Return how probable it is that a bundle no worse does as badly."""
        return sign_test(self.worse, self.better)


class Report(_Model):
    """What a shadow found."""

    live: Live
    own: Own | None
    """None: there are no labelled images."""


def sign_test(against: int, for_it: int) -> float:
    """Return the one-sided p: of as many fair coins, so many `against` or more."""
    tossed = against + for_it
    ways = sum(math.comb(tossed, heads) for heads in range(against, tossed + 1))
    return float(ways / 2**tossed)


def auroc(scores: Sequence[float], is_bad: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve; None without a good and a bad one."""
    bad = sum(is_bad)
    good = len(is_bad) - bad
    if not bad or not good:
        return None
    won = 0.0
    below = 0
    ordered = sorted(zip(scores, is_bad, strict=True))
    for _, same in groupby(ordered, key=lambda pair: pair[0]):
        labels = [is_bad for _, is_bad in same]
        here = len(labels) - sum(labels)
        won += sum(labels) * (below + here / 2)
        below += here
    return won / (bad * good)


def why_refused(report: Report) -> str | None:
    """Say why a bundle may not take over after its shadow; None where it may."""
    own = report.own
    if own is None or own.p > LOSES_AT:
        return None
    return (
        f"loses on the station's labelled images: of {own.images} it judges {own.right} rightly, "
        f"the one in force {own.right_before}; {own.worse} against it, {own.better} for it, "
        f"p = {own.p:.3g}"
    )


def figures_of(report: Report) -> Figures:
    """Return what the ledger keeps of it."""
    live = report.live
    found: Figures = {**live.model_dump(), "disagreement": round(live.disagreement, 4)}
    if report.own is not None:
        found |= {f"own_{key}": value for key, value in report.own.model_dump().items()}
        found["own_p"] = round(report.own.p, 4)
    return found


def in_words(report: Report) -> str:
    """Return it for people."""
    live, own = report.live, report.own
    words = f"{live.frames} frames, {live.disagreement:.1%} seen otherwise"
    if own is None:
        return f"{words}; no labelled images of this station to compare on"
    return (
        f"{words}; {own.images} labelled images: {own.right} right, before {own.right_before} "
        f"({own.left_out} left out: trained on)"
    )


def why_replaced(faults: int) -> str:
    """Say that inference was replaced so often."""
    return f"inference died, hung or took too much memory since it was to judge ({faults}x)"


def why_not_loaded(problem: str) -> str:
    """Say that inference has tried and does not judge by it."""
    return f"inference does not load it: {problem}"


def why_back(
    before: Tally, foreseen: Tally, after: Tally, faults: int, bounds: UpdateSettings
) -> str | None:
    """Say why a bundle on probation is gone back from; None where it is not.

    `before`: what was before the swap; `foreseen`: what its shadow has seen of it; `faults`: how
    often inference was replaced since the swap.
    """
    if faults:
        return why_replaced(faults)
    if _has_risen(before.late, before.parts, after.late, after.parts, 0.0):
        late = f"{after.late} of {after.parts} parts late, before {before.late} of {before.parts}"
        if after.late >= MIN_LATE:
            return late
    if _has_risen(
        before.invalid, before.parts, after.invalid, after.parts, bounds.max_invalid_rise
    ):
        return (
            f"{after.invalid} of {after.parts} parts INVALID, before {before.invalid} of "
            f"{before.parts} (updates.max_invalid_rise)"
        )
    judged, was_judged = after.parts - after.invalid, before.parts - before.invalid
    seen = foreseen.parts - foreseen.invalid
    for sign in (1, -1):
        if _has_risen(
            foreseen.failed,
            seen,
            after.failed,
            judged,
            bounds.max_fail_change,
            sign=sign,
            fewest=MIN_FRAMES,
        ):
            return (
                f"{after.failed} of {judged} judged parts FAIL, in its shadow {foreseen.failed} of "
                f"{seen} (updates.max_fail_change)"
            )
    if before.latency_ms and after.latency_ms and min(judged, was_judged) >= MIN_COMPARED:
        factor = after.latency_ms / before.latency_ms
        is_harm = after.latency_share is None or after.latency_share > LATENCY_SHARE
        if factor > bounds.max_latency_factor and is_harm:
            return (
                f"{after.latency_ms:.3g} ms from trigger to result, before "
                f"{before.latency_ms:.3g} (updates.max_latency_factor)"
            )
    return None


def is_proven(after: Tally, minutes: float, bounds: UpdateSettings) -> bool:
    """Say whether a probation is over."""
    if after.parts >= bounds.probation_parts:
        return True
    return minutes >= bounds.probation_minutes and after.parts >= MIN_FRAMES


def figures_of_probation(before: Tally, after: Tally) -> Figures:
    """Return what the ledger keeps of one."""
    return after.model_dump() | {f"{k}_before": v for k, v in before.model_dump().items()}


def median_of(values: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return round(median(values), 3) if values else None


def foreseen(live: Live) -> Tally:
    """Return what a shadow has seen of a bundle, as a probation counts it."""
    return Tally(parts=live.frames, failed=live.failed, invalid=live.unfit)


def _has_risen(
    old: int,
    old_all: int,
    new: int,
    new_all: int,
    bound: float,
    *,
    sign: int = 1,
    fewest: int = MIN_COMPARED,
) -> bool:
    """Say whether a share is up (sign -1: down) by more than the bound and more than chance.

    `fewest`: so many are needed of the old ones.
    """
    if old_all < fewest or new_all < MIN_COMPARED:
        return False
    change = sign * (new / new_all - old / old_all)
    pooled = (old + new) / (old_all + new_all)
    sigma = math.sqrt(pooled * (1 - pooled) * (1 / old_all + 1 / new_all))
    return change > bound and change > SIGMAS * sigma
