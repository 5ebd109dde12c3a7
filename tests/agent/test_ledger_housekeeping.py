"""Old verdicts and images go, the rest stays; what waits for the broker is never deleted."""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ssn_agent.errors import LedgerError
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Decision, Outcome
from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger import housekeeping
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.deletion import AT_ONCE, Deletion
from ssn_agent.ledger.housekeeping import ImageRetention, VerdictRetention
from ssn_agent.ledger.images import ImageFolders
from ssn_agent.ledger.labelled_pictures import labelled_pictures
from ssn_agent.ledger.retention import GRACE_S, SPARE_BYTES, Disk
from ssn_agent.ledger.writer import LedgerWriter
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from ssn_contract.messages import LabelCounts
from support.disks import small_disk
from support.labelled import label_writer, said, write_verdicts
from support.ledgers import decided, open_writer, rows, settings_in
from support.records import EPOCH, FRAME, judged, new_journal

TABLES = ("triggers", "verdicts", "defects", "outbox")
DAY_NS = 86_400 * 10**9
NOW = datetime.now(timezone.utc)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, retention={"verdict_days": 10, "ledger_gib": 1})


@pytest.fixture
def writer(settings: Settings) -> LedgerWriter:
    made = open_writer(settings)
    made.open_stream("left", EPOCH)
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(new_journal(tmp_path / "left.journal", capacity=1024)) as made:
        yield made


def write(
    settings: Settings,
    writer: LedgerWriter,
    journal: Journal,
    ages_days: Sequence[float],
    *,
    publish: bool = True,
) -> None:
    """Commit a FAIL for each age, and have the broker take their messages."""
    batch = []
    for age in ages_days:
        at_ns = int(time.time_ns() - age * DAY_NS)
        sequence = journal.accept(Accepted(0, at_ns, 10**9, None, None))
        journal.capture(sequence, FRAME)
        journal.finish(sequence, judged(Outcome.FAIL, heatmap=True))
        entry = journal.read(sequence)
        assert entry is not None
        decision = Decision(Outcome.FAIL, None, 10, at_ns + 10)
        batch.append(decided(settings, journal, entry, decision))
        journal.commit(sequence)
    writer.write(batch, Delivery())
    if publish:
        writer.write([], Delivery({m.id: NOW for m in writer.undelivered(0, 10_000)}))


def kept(settings: Settings) -> list[int]:
    return [row[0] for row in rows(settings, "SELECT sequence FROM triggers ORDER BY sequence")]


def counted(settings: Settings) -> dict[str, int]:
    return {t: rows(settings, f"SELECT count(*) FROM {t}")[0][0] for t in TABLES}  # noqa: S608 -- our own names


def test_old_verdicts_go_with_all_that_hangs_on_them_and_their_counts_stay(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [11.0] * (AT_ONCE + 5) + [9.0] * 3)
    retention = VerdictRetention(settings)
    retention.turn(0.0)
    assert len(kept(settings)) == 8  # few at a time: no verdict waits for long
    retention.turn(0.0)
    retention.turn(0.0)
    assert kept(settings) == [AT_ONCE + 6, AT_ONCE + 7, AT_ONCE + 8]
    assert counted(settings) == {"triggers": 3, "verdicts": 3, "defects": 3, "outbox": 6}
    assert writer.counts("left", EPOCH).failed == AT_ONCE + 8
    assert retention.alarm() is None


def test_labels_that_go_for_lack_of_room_are_an_alarm(
    settings: Settings, writer: LedgerWriter, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(settings, writer, journal, [11.0, 11.0, 0.0])
    labels = label_writer(settings)
    labels.write([said(1, "bad"), said(2, "good")])
    assert labels.counts() == LabelCounts(good=1, bad=1, disagreements=1)
    retention = VerdictRetention(settings, labels.forget)
    retention.turn(0.0)
    assert kept(settings) == [1, 2, 3]
    assert retention.labels_alarm() is None
    monkeypatch.setattr(housekeeping, "must_shrink", lambda *_: True)
    retention.look_again()
    retention.turn(0.0)
    assert kept(settings) == [3]
    assert "2 labels are deleted" in str(retention.labels_alarm())
    assert labels.counts() == LabelCounts(good=0, bad=0, disagreements=0)


def test_a_verdict_that_the_broker_has_not_taken_is_never_deleted(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [20.0, 20.0])
    write(settings, writer, journal, [20.0, 20.0], publish=False)
    deletion = Deletion(open_database(settings.ledger_path))
    assert len(deletion.delete_before(NOW)) == 2
    assert deletion.delete_before(NOW) == deletion.delete_oldest() == []
    assert kept(settings) == [3, 4]
    assert writer.count_undelivered() == 4


def test_a_message_that_can_never_be_delivered_keeps_no_verdict(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [20.0, 1.0], publish=False)
    undelivered = {m.id: "too large" for m in writer.undelivered(0, 10)}
    writer.write([], Delivery({}, undelivered))
    assert (
        len(Deletion(open_database(settings.ledger_path)).delete_before(NOW - timedelta(days=10)))
        == 1
    )


def test_the_newest_verdict_stays_so_that_row_numbers_only_rise(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [20.0, 20.0])
    deletion = Deletion(open_database(settings.ledger_path))
    while deletion.delete_before(NOW):
        pass
    newest = rows(settings, "SELECT max(id) FROM outbox")
    write(settings, writer, journal, [0.0])
    # The outbox asks for what is above the last one that it sent.
    assert rows(settings, "SELECT min(id) FROM outbox WHERE trigger_id = 3") > newest


def test_no_file_stays_open_that_would_keep_the_writer_from_a_disk_that_is_mounted_anew(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [20.0] * 3)
    retention = VerdictRetention(settings)
    retention.turn(0.0)
    assert kept(settings) == [3]
    writer.close()
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [path for path in links if settings.data_dir in path.parents]


def test_the_pages_of_deleted_verdicts_are_used_again(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    deletion = Deletion(open_database(settings.ledger_path))
    sizes = []
    for _ in range(4):
        write(settings, writer, journal, [20.0] * 200)
        while deletion.delete_before(NOW):
            pass
        size = deletion.size()
        sizes.append(size.used_bytes + size.spare_bytes)
    assert sizes[3] <= sizes[1] * 1.05


def test_beyond_its_share_the_oldest_verdicts_go_and_an_alarm_says_so(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [3.0] * AT_ONCE + [1.0] * AT_ONCE)
    retention = VerdictRetention(settings)
    retention.turn(0.0)
    assert len(kept(settings)) == 2 * AT_ONCE
    retention.settings = settings.retention.model_copy(update={"ledger_gib": 1e-6})
    retention.look_again()
    retention.turn(0.0)
    assert kept(settings) == list(range(AT_ONCE + 1, 2 * AT_ONCE + 1))
    assert f"{NOW - timedelta(days=3):up to %Y-%m-%d}" in str(retention.alarm())


def test_on_a_disk_that_stays_short_old_verdicts_make_room_for_new_ones(
    settings: Settings, writer: LedgerWriter, journal: Journal
) -> None:
    write(settings, writer, journal, [3.0] * 10)
    retention = VerdictRetention(settings)
    retention.turn(GRACE_S - 1)
    assert len(kept(settings)) == 10
    retention.look_again()
    retention.turn(GRACE_S + 1)
    assert kept(settings) == [10]
    assert retention.alarm() is not None
    assert Deletion(open_database(settings.ledger_path)).size().spare_bytes < SPARE_BYTES


def image(settings: Settings, name: str, size: int, age_days: float) -> Path:
    path = settings.heatmap_dir / "left" / "epoch" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size)
    at_ns = int(time.time_ns() - age_days * DAY_NS)
    os.utime(path, ns=(at_ns, at_ns))
    return path


def images(settings: Settings) -> list[str]:
    return sorted(path.stem for path in settings.heatmap_dir.rglob("*.png"))


def write_pictures(
    settings: Settings, folder: Path, ages_days: Sequence[float], labelled: Sequence[int]
) -> None:
    """Commit a FAIL for each age whose picture of 1 MiB is kept, and label some."""
    write_verdicts(settings, folder / "kept.journal", [Outcome.FAIL] * len(ages_days))
    for number, age in enumerate(ages_days, start=1):
        path = image_path(settings.image_dir, "left", EPOCH, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 2**20)
        at_ns = int(time.time_ns() - age * DAY_NS)
        os.utime(path, ns=(at_ns, at_ns))
    label_writer(settings).write([said(number, "bad") for number in labelled])


def pictures(settings: Settings) -> list[int]:
    return sorted(int(path.stem) for path in settings.image_dir.rglob("*.png"))


def retention_of(settings: Settings, **values: float) -> ImageRetention:
    given = {"min_free_percent": 0, **values}
    kept_settings = settings.retention.model_copy(update=given)
    return ImageRetention(settings.model_copy(update={"retention": kept_settings}))


def test_images_go_by_age_and_their_folders_when_nothing_is_left_in_them(
    settings: Settings,
) -> None:
    image(settings, "000000/1.png", 10, age_days=8)
    image(settings, "000001/1000.png", 10, age_days=6)
    image(settings, "000001/1001.png", 10, age_days=4)
    retention_of(settings, heatmap_days=5).look()
    assert images(settings) == ["1001"]
    assert not (settings.heatmap_dir / "left" / "epoch" / "000000").exists()


def test_beyond_their_share_the_oldest_images_go_first(settings: Settings) -> None:
    for number in range(6):
        image(settings, f"00000{number % 2}/{number}.png", 2**20, age_days=6 - number)
    retention = retention_of(settings, heatmap_days=90, heatmap_gib=4 / 1024)
    retention.look()
    assert images(settings) == ["1", "3", "4", "5"]  # 0 and 2 lie in the folder that is the oldest
    image(settings, "000001/7.png", 2**20, age_days=0)
    retention.look()
    assert images(settings) == ["3", "4", "5", "7"]
    assert retention.short_s == 0.0
    assert retention.alarm() is None


def test_on_a_short_disk_all_images_may_go_and_an_alarm_says_when_that_is_not_enough(
    settings: Settings,
) -> None:
    for number in range(3):
        image(settings, f"000000/{number}.png", 10, age_days=0)
    retention = retention_of(settings, heatmap_days=90, min_free_percent=100)
    retention.look()
    assert images(settings) == []
    assert "min_free_percent" in str(retention.alarm())
    since = retention.short_s
    retention.look()
    assert retention.short_s > since > 0.0  # counted from the first time
    retention.settings = settings.retention.model_copy(update={"min_free_percent": 0})
    retention.look()
    assert retention.alarm() is None


def test_a_folder_that_has_not_changed_is_not_looked_into_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(settings, "000000/1.png", 10, age_days=1)
    folders = ImageFolders(settings.heatmap_dir)
    assert folders.look() == 10
    monkeypatch.setattr("ssn_agent.ledger.images._files", lambda path: pytest.fail(str(path)))
    assert folders.look() == 10


def test_images_are_deleted_in_a_thread_while_turns_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        image(settings, f"000000/{number}.png", 1, age_days=8)
    monkeypatch.setattr(housekeeping, "IMAGES_S", 0.0)
    retention = retention_of(settings, heatmap_days=5)
    longest_s, until = 0.0, time.monotonic() + 20
    while images(settings) and time.monotonic() < until:
        before = time.monotonic()
        retention.turn()
        longest_s = max(longest_s, time.monotonic() - before)
    assert images(settings) == []
    assert longest_s < 0.15  # the pauses alone take 0.2 s


def test_pictures_go_by_age_but_for_those_that_people_have_labelled(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(settings, tmp_path, [9, 8, 7, 3, 2], labelled=[2, 4])
    retention = retention_of(settings, image_days=5)
    retention.look()
    assert pictures(settings) == [2, 4, 5]
    retention.look()
    monkeypatch.setattr(retention, "_labelled", lambda: pytest.fail("asked again"))
    retention.look()  # nothing has changed: the old one that stays costs no look
    assert pictures(settings) == [2, 4, 5]


def test_beyond_their_share_the_oldest_pictures_go_first_and_labelled_ones_last(
    settings: Settings, tmp_path: Path
) -> None:
    write_pictures(settings, tmp_path, [9, 8, 7, 6, 5], labelled=[1, 3])
    retention = retention_of(settings, image_gib=3 / 1024)
    retention.look()
    assert pictures(settings) == [1, 3, 5]
    retention.settings = retention.settings.model_copy(update={"image_gib": 1 / 1024})
    retention.look()
    assert pictures(settings) == [3]


def test_on_a_short_disk_heatmaps_go_before_pictures(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(settings, tmp_path, [2, 1], labelled=[1])
    for number in (1, 2, 3):
        image(settings, f"000000/{number}.png", 2**20, age_days=0)
    total = 100 * 2**20

    def disk(_: Path) -> Disk:
        held = sum(p.stat().st_size for p in settings.data_dir.rglob("*.png"))
        return Disk(total, total - held)

    monkeypatch.setattr(housekeeping, "_disk", disk)
    left = []
    for percent in (98, 96.5, 98.5, 99.5):  # of 5 MiB in all
        retention_of(settings, min_free_percent=percent).look()
        left.append((len(images(settings)), pictures(settings)))
    assert left == [(0, [1, 2]), (0, [1, 2]), (0, [1]), (0, [])]


def test_while_the_ledger_cannot_be_read_no_picture_is_taken_for_one_without_a_label(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(settings, tmp_path, [9], labelled=[1])
    settings.ledger_path.rename(tmp_path / "away")
    retention_of(settings, image_days=5).look()
    assert pictures(settings) == [1]
    assert "old images are not deleted" in capsys.readouterr().out


def test_pictures_that_have_filled_the_disk_let_the_ledger_be_read_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        settings = settings_in(disk.path)
        write_pictures(settings, tmp_path, [3, 2, 1, 0, 0, 0, 0], labelled=[1, 2])
        gc.collect()  # closes the ledger, as an agent that ends: its log is no file then
        disk.fill()
        retention = retention_of(settings, min_free_percent=20)
        with pytest.raises(LedgerError):
            labelled_pictures(settings.ledger_path, settings.image_dir)
        retention.look()
        assert pictures(settings) == [1, 2, 3]
        retention.look()
        assert pictures(settings) == [1, 2, 3]
