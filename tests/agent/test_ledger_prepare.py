"""Before a camera's first number is given out, its numbering is proven or begins anew."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from ssn_agent.errors import LedgerError
from ssn_agent.frames import layout
from ssn_agent.frames.journal import Journal, boot_id
from ssn_agent.frames.layout import Decision, Header, Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.ledger.backup import backup
from ssn_agent.ledger.damage import alarms, set_asides
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.prepare import numbering_without_journal, prepare
from ssn_agent.ledger.reader import open_ledger
from ssn_agent.ledger.seal import break_seal, seal
from ssn_agent.ledger.stream import follow
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from support.ledgers import decided, open_writer, rows, settings_in
from support.records import EPOCH, FRAME, START_UTC_NS, judged, trigger

EARLIER_BOOT = UUID(int=7)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "run").mkdir()
    return settings_in(tmp_path)


def header(settings: Settings, camera: str = "left") -> Header:
    with closing(Journal(RuntimeFiles(settings.runtime_dir).journal(camera))) as journal:
        return journal.header


def open_journal(settings: Settings) -> Journal:
    return Journal(RuntimeFiles(settings.runtime_dir).journal("left"))


def use(settings: Settings, parts: int, *, commit: int) -> None:
    """Let `parts` come to the camera, and the ledger take the first `commit` of them."""
    writer = open_writer(settings)
    with closing(open_journal(settings)) as journal:
        stream = follow(journal, writer)
        for _ in range(parts):
            sequence = journal.accept(trigger())
            journal.capture(sequence, FRAME)
            if commit > 0:
                commit -= 1
                journal.finish(sequence, judged(Outcome.PASS))
        stream.refresh()
        for entry, decision in list(stream.due(10, START_UTC_NS)):
            writer.write([decided(settings, journal, entry, decision)], Delivery())
            stream.committed(entry, decision)


def reboot(settings: Settings) -> None:
    """Make the journal one of an earlier boot of the machine."""
    path = RuntimeFiles(settings.runtime_dir).journal("left")
    with closing(Journal(path)) as journal:
        old = journal.header
    data = bytearray(path.read_bytes())
    earlier = Header(old.camera, old.epoch, EARLIER_BOOT, old.first, old.capacity)
    packed = layout.pack_header(earlier)
    data[: len(packed)] = packed
    path.write_bytes(data)


def close_well(settings: Settings, sequence: int) -> UUID:
    writer = open_writer(settings)
    last = writer.last_stream("left")
    assert last is not None
    writer.open_stream("left", last[0])
    writer.close_stream("left", last[0], sequence)
    writer.close()
    seal(settings.ledger_path)
    return last[0]


def test_a_first_start_begins_at_one_and_makes_every_camera_s_files(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    settings = settings_in(tmp_path, ("left", "right"))
    prepare(settings)
    headers = [header(settings, camera) for camera in ("left", "right")]
    assert [h.first for h in headers] == [1, 1]
    assert [h.camera for h in headers] == ["left", "right"]
    assert headers[0].epoch != headers[1].epoch
    assert headers[0].boot == boot_id()
    PixelSlots(RuntimeFiles(settings.runtime_dir).pixels("right"))
    assert rows(settings, "SELECT camera, closed_sequence FROM streams ORDER BY camera") == [
        ("left", None),
        ("right", None),
    ]


def test_a_journal_of_this_boot_goes_on_untouched(settings: Settings) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 3, commit=2)
    content = RuntimeFiles(settings.runtime_dir).journal("left").read_bytes()
    prepare(settings)
    assert header(settings) == before
    assert RuntimeFiles(settings.runtime_dir).journal("left").read_bytes() == content


def test_after_a_reboot_open_triggers_are_lost_decided_ones_keep_their_verdict_and_numbers_go_on(
    settings: Settings,
) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 4, commit=2)
    with closing(open_journal(settings)) as journal:
        journal.finish(3, judged(Outcome.FAIL))
        journal.decide(3, Decision(Outcome.FAIL, None, 5, START_UTC_NS + 5))
    reboot(settings)
    prepare(settings)
    query = "SELECT sequence, verdict, reason FROM verdicts JOIN triggers ON id = trigger_id"
    assert rows(settings, f"{query} ORDER BY 1") == [
        (1, "PASS", None),
        (2, "PASS", None),
        (3, "FAIL", None),
        (4, "INVALID", "lost"),
    ]
    after = header(settings)
    assert (after.epoch, after.first, after.boot) == (before.epoch, 5, boot_id())
    assert rows(settings, "SELECT count(*) FROM defects") == [(1,)]


def test_after_an_orderly_end_and_a_lost_journal_numbers_go_on(settings: Settings) -> None:
    prepare(settings)
    use(settings, 3, commit=3)
    epoch = close_well(settings, 3)
    RuntimeFiles(settings.runtime_dir).journal("left").unlink()
    prepare(settings)
    assert (header(settings).epoch, header(settings).first) == (epoch, 4)


def test_a_number_given_out_after_an_orderly_end_is_never_given_out_again(
    settings: Settings,
) -> None:
    prepare(settings)
    epoch = close_well(settings, 3)
    RuntimeFiles(settings.runtime_dir).journal("left").unlink()
    prepare(settings)  # numbers go on at 4, and the camera may take parts from here on
    RuntimeFiles(settings.runtime_dir).journal("left").unlink()  # the power fails
    prepare(settings)
    assert header(settings).epoch != epoch
    assert header(settings).first == 1


@pytest.mark.parametrize("how", ["copy", "backup"])
def test_an_older_ledger_that_is_put_back_begins_a_new_epoch_though_it_was_closed_well(
    settings: Settings, tmp_path: Path, how: str
) -> None:
    prepare(settings)
    epoch = close_well(settings, 3)
    older = tmp_path / "older.sqlite"
    if how == "copy":
        shutil.copy2(settings.ledger_path, older)
    else:
        backup(open_ledger(settings.ledger_path), older, replace=False)
    prepare(settings)  # numbers 4 and on are given out
    close_well(settings, 9)
    shutil.copy2(older, settings.ledger_path)
    RuntimeFiles(settings.runtime_dir).journal("left").unlink()  # a reboot
    prepare(settings)
    assert header(settings).epoch != epoch
    assert header(settings).first == 1


def test_an_older_ledger_that_is_put_back_beside_a_newer_journal_begins_a_new_epoch(
    settings: Settings, tmp_path: Path
) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 3, commit=3)
    backup(open_ledger(settings.ledger_path), tmp_path / "older.sqlite", replace=False)
    use(settings, 4, commit=3)
    for file in settings.data_dir.glob("ledger.sqlite*"):
        file.unlink()
    shutil.copy2(tmp_path / "older.sqlite", settings.ledger_path)
    prepare(settings)
    assert header(settings).epoch != before.epoch
    assert header(settings).first == 1
    open_one = "SELECT sequence, reason FROM verdicts JOIN triggers ON id = trigger_id"
    assert rows(settings, f"{open_one} WHERE verdict = 'INVALID'") == [(7, "lost")]


def test_a_seal_is_good_for_one_start(settings: Settings) -> None:
    prepare(settings)
    close_well(settings, 3)
    assert break_seal(settings.ledger_path)
    assert not break_seal(settings.ledger_path)


def test_without_a_journal_and_without_an_orderly_end_a_new_epoch_begins(
    settings: Settings,
) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 3, commit=3)
    RuntimeFiles(settings.runtime_dir).journal("left").unlink()
    prepare(settings)
    assert header(settings).epoch != before.epoch
    assert header(settings).first == 1


def test_what_a_removed_camera_left_open_is_closed_and_its_numbers_go_on_when_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    prepare(settings)
    epoch = header(settings).epoch
    use(settings, 4, commit=2)
    with closing(open_journal(settings)) as journal:
        journal.finish(3, judged(Outcome.FAIL, heatmap=True))
        journal.decide(3, Decision(Outcome.FAIL, None, 5, START_UTC_NS + 5))
    renamed = settings_in(tmp_path, ("right",))
    prepare(renamed)
    query = "SELECT sequence, verdict, reason FROM verdicts JOIN triggers ON id = trigger_id"
    assert rows(renamed, f"{query} WHERE sequence > 2 ORDER BY 1") == [
        (3, "FAIL", None),
        (4, "INVALID", "lost"),
    ]
    assert sorted(path.name for path in renamed.runtime_dir.iterdir()) == [
        "right.journal",
        "right.pixels",
    ]
    seal(settings.ledger_path)  # an orderly end
    prepare(settings)
    assert (header(settings).epoch, header(settings).first) == (epoch, 5)


def test_a_heatmap_lies_where_its_frame_was_judged_whatever_the_settings_are_now(
    settings: Settings,
) -> None:
    prepare(settings)
    with closing(open_journal(settings)) as journal:
        sequence = journal.accept(trigger())
        journal.capture(sequence, FRAME)
        result = replace(judged(Outcome.FAIL, heatmap=True), region=(1, 2, 30, 40))
        journal.finish(sequence, result)
        entry = journal.read(sequence)
        assert entry is not None
        message = decided(settings, journal, entry, Decision(Outcome.FAIL, None, 5, 6)).message
    heatmap = message.heatmap
    assert heatmap is not None
    assert (heatmap.x, heatmap.y, heatmap.width, heatmap.height) == (1, 2, 30, 40)


def test_a_damaged_journal_is_set_aside_and_a_new_epoch_begins(settings: Settings) -> None:
    prepare(settings)
    before = header(settings)
    path = RuntimeFiles(settings.runtime_dir).journal("left")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    prepare(settings)
    assert header(settings).epoch != before.epoch
    (aside,) = path.parent.glob("left.journal.damaged-*")
    assert aside.read_bytes() == bytes(data)


def test_a_journal_of_another_camera_is_not_taken_for_this_one_s(settings: Settings) -> None:
    files = RuntimeFiles(settings.runtime_dir)
    Journal.create(files.journal("left"), Header("right", EPOCH, boot_id(), 1, 8)).close()
    prepare(settings)
    assert header(settings).camera == "left"
    assert header(settings).epoch != EPOCH


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_ledger_that_lacks_committed_verdicts_begins_a_new_epoch_and_its_counts_add_up(
    settings: Settings, *, rebooted: bool
) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 5, commit=3)
    for file in settings.data_dir.iterdir():
        file.unlink()
    if rebooted:
        reboot(settings)
    prepare(settings)
    assert header(settings).epoch != before.epoch
    assert header(settings).first == 1
    query = "SELECT sequence, verdict, reason FROM verdicts JOIN triggers ON id = trigger_id"
    committed_again = [(1, "PASS", None), (2, "PASS", None), (3, "PASS", None)]
    closed = [(4, "INVALID", "lost"), (5, "INVALID", "lost")]
    assert rows(settings, query) == committed_again + closed
    assert rows(settings, "SELECT count(*) FROM outbox") == [(5,)]
    with closing(open_journal(settings)) as journal:
        stream = follow(journal, open_writer(settings))
        assert stream.triggers == stream.counts.closed + stream.pending == 0


def test_a_commit_that_was_not_noted_before_the_death_is_no_lost_verdict(
    settings: Settings,
) -> None:
    prepare(settings)
    before = header(settings)
    use(settings, 2, commit=1)
    writer = open_writer(settings)
    with closing(open_journal(settings)) as journal:
        stream = follow(journal, writer)
        ((entry, decision),) = list(stream.due(10**18, START_UTC_NS))
        writer.write([decided(settings, journal, entry, decision)], Delivery())
    prepare(settings)
    assert header(settings) == before
    with closing(open_journal(settings)) as journal:
        assert follow(journal, writer).counts.closed == 2


def test_numbers_go_on_only_where_the_ledger_says_how_the_last_ones_ended() -> None:
    assert numbering_without_journal((EPOCH, 9)).first == 10
    assert numbering_without_journal((EPOCH, 9)).epoch == EPOCH
    for last in (None, (EPOCH, None)):
        fresh = numbering_without_journal(last)
        assert fresh.first == 1
        assert fresh.epoch != EPOCH


def test_the_settings_in_force_are_noted_without_their_secrets(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    broker = {"username": "station", "password": "hunter2"}
    source = {"kind": "rtsp", "url": "rtsp://10.0.0.2/1", "username": "u", "password": "hunter3"}
    settings = settings_in(tmp_path, (), broker=broker, cameras={"left": {"source": source}})
    prepare(settings)
    ((digest, text),) = rows(settings, "SELECT new_digest, new FROM settings_changes")
    assert digest == settings.digest
    assert '"username":"station"' in text
    assert "hunter" not in text


def test_a_ledger_that_cannot_be_opened_stops_the_start_by_name(settings: Settings) -> None:
    settings.ledger_path.mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        prepare(settings)


def test_a_damaged_ledger_is_set_aside_untouched_and_numbers_begin_anew(
    settings: Settings,
) -> None:
    prepare(settings)
    use(settings, 3, commit=2)
    before = header(settings)
    settings.ledger_path.write_bytes(b"no database " * 999)
    Path(f"{settings.ledger_path}-wal").write_bytes(b"its log")
    prepare(settings)
    (aside,) = set_asides(settings.ledger_path)
    assert aside.read_bytes() == b"no database " * 999
    assert Path(f"{aside}-wal").read_bytes() == b"its log"
    assert aside.name in alarms(settings.ledger_path)[0]
    assert header(settings).epoch != before.epoch
    # The part that no verdict was committed for has one now: the journal had it.
    assert rows(settings, "SELECT sequence, reason FROM triggers JOIN verdicts ON id = trigger_id")


def test_a_set_aside_that_was_cut_off_is_finished_at_the_next_start(settings: Settings) -> None:
    settings.data_dir.mkdir()
    aside = Path(f"{settings.ledger_path}.damaged-20260504T060000")
    aside.write_bytes(b"no database " * 999)
    Path(f"{settings.ledger_path}-wal").write_bytes(b"its log")
    prepare(settings)
    assert Path(f"{aside}-wal").read_bytes() == b"its log"
    assert rows(settings, "SELECT count(*) FROM verdicts") == [(0,)]


@pytest.mark.parametrize("got_as_far_as", ["the file", "the tables"])
def test_a_start_that_was_killed_before_a_new_ledger_had_what_the_journals_hold_loses_none_of_it(
    settings: Settings, got_as_far_as: str
) -> None:
    prepare(settings)
    use(settings, 5, commit=5)
    for path in settings.data_dir.glob("ledger.sqlite*"):
        path.unlink()  # as one that was set aside
    settings.ledger_path.touch()
    if got_as_far_as == "the tables":
        engine = open_database(settings.ledger_path)
        migrate(engine)
        engine.dispose()
    prepare(settings)
    assert rows(settings, "SELECT count(*) FROM verdicts") == [(5,)]
    assert rows(settings, "SELECT count(*) FROM outbox WHERE published_at IS NULL") == [(5,)]
