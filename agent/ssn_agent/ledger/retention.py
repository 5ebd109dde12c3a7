"""What has to go, and when. Rules alone: no clock, no file, no database here.

In this order:

1. What is older than its days goes: heatmaps, pictures and verdicts alike.
2. Heatmaps beyond their share of the disk go, the oldest first; pictures and verdicts beyond theirs
   likewise: an alarm says so where verdicts are younger than their days.
3. Where the disk is short, heatmaps go, then pictures. Where that does not help for an hour, the
   ledger's file stops growing: the oldest verdicts make room for new ones, and an alarm says so.
   Not at once, for a disk that something else has filled for a while should cost no verdict.

A verdict whose messages wait for the broker never goes. One that people have labelled does not go
by age, nor does its picture, and they go after all others where there is no room: nobody says it
again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ssn_agent.ledger.settings import RetentionSettings

GIB = 2**30
GRACE_S = 3600.0
"""How long the disk has to be short before verdicts go for it."""
SPARE_BYTES = 4 * 2**20
"""Kept free inside a ledger that may not grow: room for some thousand verdicts."""


@dataclass(frozen=True)
class Disk:
    """The file system that ledger and images lie on."""

    total_bytes: int
    free_bytes: int

    def lacks_bytes(self, settings: RetentionSettings) -> int:
        """Return how much less is free than should be; 0 where enough is."""
        wanted = int(self.total_bytes * settings.min_free_percent / 100)
        return max(0, wanted - self.free_bytes)


@dataclass(frozen=True)
class LedgerSize:
    """The pages of the database."""

    used_bytes: int
    spare_bytes: int
    """Of deleted rows: the next ones take them, the file does not shrink."""


def bytes_to_free(
    disk: Disk, held_bytes: int, share_gib: float, settings: RetentionSettings
) -> int:
    """Return how many bytes of heatmaps, or of pictures, have to go, young ones too."""
    beyond = held_bytes - int(share_gib * GIB)
    return max(0, beyond, disk.lacks_bytes(settings))


def must_shrink(size: LedgerSize, short_s: float, settings: RetentionSettings) -> bool:
    """Say whether verdicts have to go before their time; the disk has been short for `short_s`."""
    if size.used_bytes > settings.ledger_gib * GIB:
        return True
    return short_s >= GRACE_S and size.spare_bytes < SPARE_BYTES


def oldest_kept(now: datetime, days: float) -> datetime:
    """Return the time before which everything is too old."""
    return now - timedelta(days=days)


def early_alarm(early: datetime | None, now: datetime, settings: RetentionSettings) -> str | None:
    """Say that verdicts are missing that should be there: `early` is the newest one that went."""
    if early is None or early < oldest_kept(now, settings.verdict_days):
        return None
    return (
        f"ledger: no room for {settings.verdict_days:g} days; verdicts up to {early:%Y-%m-%d %H:%M}"
        " UTC are deleted: make room (retention.ledger_gib, the disk), or lower verdict_days"
    )
