"""Counters of the ledger process that the database does not keep. No clock and no file here."""

from bisect import bisect_left
from collections import deque
from itertools import accumulate

from ssn_contract.metrics import Durations

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a fast commit to the longest deadline."""
RECENT = 1000
RATE_S = 10.0


class DurationCounter:
    """How long something took: a histogram, and quantiles of the last ones."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        """Count one; a clock that was set back gives 0."""
        took_s = max(0.0, seconds)
        self._counts[bisect_left(BOUNDS_S, took_s)] += 1
        self._sum_s += took_s
        self._recent.append(took_s)

    def message(self) -> Durations:
        """Return it as the contract has it."""
        *within, count = accumulate(self._counts)
        ordered = sorted(self._recent)
        return Durations(
            count=count,
            sum_s=round(self._sum_s, 6),
            buckets={f"{bound:g}": n for bound, n in zip(BOUNDS_S, within, strict=True)},
            median_s=_quantile(ordered, 0.5),
            p99_s=_quantile(ordered, 0.99),
        )


class RateCounter:
    """How many a second, over the last ones. Times are seconds of the monotonic clock."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._times: deque[float] = deque(maxlen=RECENT)

    def add(self, now: float) -> None:
        """Count one."""
        self._times.append(now)

    def per_s(self, now: float) -> float:
        """Return the rate over the last `RATE_S`; over less where there were very many."""
        while self._times and self._times[0] < now - RATE_S:
            self._times.popleft()
        since = self._times[0] if len(self._times) == RECENT else max(self._since, now - RATE_S)
        return len(self._times) / max(now - since, 0.001)


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
