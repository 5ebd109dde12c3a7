"""Keeps images and verdicts within their days and their share of the disk: `retention`'s rules.

Images go in a thread: their files are many. Verdicts go in the ledger process's own turns, which
alone write to the database, a few at a time, and without waiting for the disk: what a power cut
brings back is deleted again.
"""

import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from ssn_agent.errors import LedgerDamaged, LedgerError
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.deletion import Deletion
from ssn_agent.ledger.images import NONE_IS_WORTH_MORE, ImageFolders
from ssn_agent.ledger.labelled_pictures import labelled_pictures
from ssn_agent.ledger.retention import (
    SPARE_BYTES,
    Disk,
    bytes_to_free,
    early_alarm,
    must_shrink,
    oldest_kept,
)
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_contract.messages import LabelCounts

IMAGES_S = 30.0
"""Between two looks at the images and the disk."""
VERDICTS_S = 10.0
"""Until the next look where nothing has to go."""
LOG_EVERY_S = 3600.0


class Housekeeping:
    """Images and verdicts of one station."""

    def __init__(self, settings: Settings, on_labelled_gone: Callable[[LabelCounts], None]) -> None:
        """Take the settings, and whom to tell of labelled verdicts that go; touches nothing yet."""
        self._images = ImageRetention(settings)
        self._verdicts = VerdictRetention(settings, on_labelled_gone)

    def take_over(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        self._images.settings = settings.retention
        self._verdicts.settings = settings.retention
        self._verdicts.look_again()

    def turn(self, *, ledger_is_well: bool) -> None:
        """Take the next steps that are due; takes milliseconds. Raises LedgerDamaged."""
        self._images.turn()
        if ledger_is_well:
            self._verdicts.turn(self._images.short_s)

    def alarms(self) -> list[str]:
        """Say what people should know of it."""
        found = self._images.alarm(), self._verdicts.alarm(), self._verdicts.labels_alarm()
        return [text for text in found if text is not None]


class ImageRetention:
    """Looks at the images and the disk now and then, in a thread, and deletes what has to go."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.retention
        self._data_dir = settings.data_dir
        self._heatmaps = ImageFolders(settings.heatmap_dir)
        self._pictures = ImageFolders(settings.image_dir)
        self._labelled = partial(labelled_pictures, settings.ledger_path, settings.image_dir)
        self._thread: threading.Thread | None = None
        self._next_at = 0.0
        self._lacking: tuple[float, Disk] | None = None
        """Since when the disk has been short although images went, and the disk."""

    @property
    def short_s(self) -> float:
        """Return for how long the disk has been short, with no images left to delete."""
        lacking = self._lacking
        return 0.0 if lacking is None else time.monotonic() - lacking[0]

    def alarm(self) -> str | None:
        """Say that the disk is short."""
        if self._lacking is None:
            return None
        free_mib = self._lacking[1].free_bytes // 2**20
        return (
            f"disk: {free_mib} MiB free, less than retention.min_free_percent, and no images left "
            "to delete: make room, or the oldest verdicts have to go"
        )

    def turn(self) -> None:
        """Start a look that is due."""
        now = time.monotonic()
        if now >= self._next_at and (self._thread is None or not self._thread.is_alive()):
            self._next_at = now + IMAGES_S
            self._thread = threading.Thread(target=self.look, daemon=True)
            self._thread.start()

    def look(self) -> None:
        """Delete what has to go, and note how the disk is after that."""
        settings = self.settings
        try:
            self._delete(self._heatmaps, settings.heatmap_days, settings.heatmap_gib)
            self._delete(self._pictures, settings.image_days, settings.image_gib, self._labelled)
            disk = _disk(self._data_dir)
        except (OSError, LedgerError, LedgerDamaged) as error:
            logger().error("old images are not deleted", problem=str(error))
            if isinstance(error, LedgerError):
                self._make_way()
            return
        if not disk.lacks_bytes(settings):
            self._lacking = None
        elif self._lacking is None:
            self._lacking = time.monotonic(), disk
            logger().error("the disk is short", free_mib=disk.free_bytes // 2**20)
        else:
            self._lacking = self._lacking[0], disk

    def _make_way(self) -> None:
        """Free the little that a ledger wants to be read where pictures have filled the disk.

        SQLite makes files beside it, and until then nobody knows which pictures are labelled: the
        newest are the least likely.
        """
        if _disk(self._data_dir).free_bytes < SPARE_BYTES:
            files, freed = self._pictures.delete_newest(SPARE_BYTES)
            logger().error("no room to read the ledger", pictures_deleted=files, bytes=freed)

    def _delete(
        self,
        folders: ImageFolders,
        days: float,
        share_gib: float,
        worth_more: Callable[[], frozenset[str]] = NONE_IS_WORTH_MORE,
    ) -> None:
        held = folders.look()
        excess = bytes_to_free(_disk(self._data_dir), held, share_gib, self.settings)
        before = oldest_kept(datetime.now(timezone.utc), days)
        files, freed = folders.delete(int(before.timestamp() * 1e9), excess, worth_more)
        if files:
            root = folders.root.name
            logger().info("old images deleted", of=root, files=files, mib=freed // 2**20)


class VerdictRetention:
    """Deletes the oldest verdicts, a few a turn."""

    def __init__(
        self, settings: Settings, on_labelled_gone: Callable[[LabelCounts], None] = lambda _: None
    ) -> None:
        self.settings = settings.retention
        self._deletion = Deletion(
            open_database(settings.ledger_path, synced=False), on_labelled_gone
        )
        self._next_at = 0.0
        self._log_at = 0.0
        self._gone = 0
        self._early: datetime | None = None

    def look_again(self) -> None:
        """Look at the next turn."""
        self._next_at = 0.0

    def alarm(self) -> str | None:
        """Say that verdicts had to go before their time."""
        return early_alarm(self._early, datetime.now(timezone.utc), self.settings)

    def labels_alarm(self) -> str | None:
        """Say that labels had to go, until the next start: the newest of them may be old."""
        gone = self._deletion.labels
        if not gone:
            return None
        return (
            f"ledger: no room; {gone} labels are deleted with their verdicts: make room "
            "(retention.ledger_gib, the disk)"
        )

    def turn(self, short_s: float) -> None:
        """Delete a few verdicts where some have to go. Raises LedgerDamaged."""
        if time.monotonic() < self._next_at:
            return
        try:
            self._delete(short_s)
        except LedgerError as error:
            self._next_at = time.monotonic() + VERDICTS_S
            logger().error("old verdicts are not deleted", problem=str(error))

    def _delete(self, short_s: float) -> None:
        before = oldest_kept(datetime.now(timezone.utc), self.settings.verdict_days)
        labels = self._deletion.labels
        gone = self._deletion.delete_before(before)
        if not gone and must_shrink(self._deletion.size(), short_s, self.settings):
            gone = self._deletion.delete_oldest()
            if gone:
                self._note_early(max(gone))
        if self._deletion.labels > labels:
            logger().error("labels have to go", labels=self._deletion.labels)
        self._gone += len(gone)
        if not gone:
            self._next_at = time.monotonic() + VERDICTS_S
        if self._gone and time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + LOG_EVERY_S
            logger().info("old verdicts deleted", since_last_said=self._gone)
            self._gone = 0

    def _note_early(self, newest: datetime) -> None:
        if self.alarm() is None:
            logger().error("verdicts have to go before their time", up_to=newest.isoformat())
        self._early = newest if self._early is None else max(self._early, newest)


def _disk(folder: Path) -> Disk:
    usage = shutil.disk_usage(folder)
    return Disk(usage.total, usage.free)
