"""What has to go and when: rules alone."""

from datetime import datetime, timedelta, timezone

import pytest

from ssn_agent.ledger.retention import (
    GIB,
    GRACE_S,
    SPARE_BYTES,
    Disk,
    LedgerSize,
    bytes_to_free,
    early_alarm,
    must_shrink,
)
from ssn_agent.ledger.settings import RetentionSettings

SETTINGS = RetentionSettings(verdict_days=10, ledger_gib=2, heatmap_gib=3, min_free_percent=10)
NOW = datetime(2026, 5, 4, 6, tzinfo=timezone.utc)
ROOMY = Disk(100 * GIB, 50 * GIB)
SHORT = Disk(100 * GIB, 9 * GIB)


@pytest.mark.parametrize(
    ("disk", "held_gib", "to_free_gib"),
    [(ROOMY, 3, 0), (ROOMY, 5, 2), (SHORT, 3, 1), (SHORT, 5, 2), (Disk(GIB, 0), 0, 0.1)],
)
def test_images_go_beyond_their_share_and_as_far_as_the_disk_is_short(
    disk: Disk, held_gib: float, to_free_gib: float
) -> None:
    found = bytes_to_free(disk, int(held_gib * GIB), SETTINGS.heatmap_gib, SETTINGS)
    assert found == pytest.approx(to_free_gib * GIB, abs=1)


def test_a_disk_that_is_short_for_a_while_costs_no_verdict() -> None:
    size = LedgerSize(used_bytes=GIB, spare_bytes=0)
    assert not must_shrink(size, GRACE_S - 1, SETTINGS)
    assert must_shrink(size, GRACE_S, SETTINGS)


def test_on_a_short_disk_no_more_verdicts_go_than_come() -> None:
    assert not must_shrink(LedgerSize(GIB, SPARE_BYTES), 10 * GRACE_S, SETTINGS)


def test_verdicts_beyond_their_share_go_at_once() -> None:
    assert must_shrink(LedgerSize(2 * GIB + 1, GIB), 0.0, SETTINGS)
    assert not must_shrink(LedgerSize(2 * GIB, 0), 0.0, SETTINGS)


def test_an_alarm_stands_while_verdicts_are_missing_that_should_be_there() -> None:
    assert early_alarm(None, NOW, SETTINGS) is None
    text = early_alarm(NOW - timedelta(days=9), NOW, SETTINGS)
    assert text is not None
    assert "2026-04-25 06:00" in text
    assert len(text) <= 200  # what an alarm has room for
    assert early_alarm(NOW - timedelta(days=11), NOW, SETTINGS) is None
    shorter = SETTINGS.model_copy(update={"verdict_days": 8.0})
    assert early_alarm(NOW - timedelta(days=9), NOW, shorter) is None
