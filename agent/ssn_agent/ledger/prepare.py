"""Before anything runs: `python -m ssn_agent.ledger.prepare SETTINGS PARENT`.

Brings the ledger to this version's schema (one that is damaged is set aside), notes the settings in
force, and gives every camera a journal whose numbering is proven:

    a journal of this boot                 goes on as it is
    a journal of an earlier boot           its open triggers are closed as INVALID(lost); goes on
    a journal of which the ledger lacks    the same; a new epoch, from 1: its counts would never add
    committed verdicts (lost, damaged, an  up again. All that the journal holds is committed to
    older one, another station's)          the ledger that is there, as far as it lacks it: with
                                           the other one messages may be lost
    no sound journal, ledger closed well   goes on after the ledger's last number
    and not changed since (`seal`)
    no sound journal otherwise (a crash,   a new epoch, from 1: a number could have been given out
    an older ledger put back)              that the ledger never saw

Where the ledger cannot be used (a full disk, say), journals of this boot go on as they are: a line
needs verdicts meanwhile. Without them there are no numbers to give, and the agent does not start.
What a camera's journal holds that is no longer in the settings is closed, and its files go.
"""

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import Engine

from ssn_agent.errors import AgentError, JournalError, LedgerDamaged, LedgerError
from ssn_agent.frames.journal import Journal, boot_id, rename_aside
from ssn_agent.frames.layout import Header
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.ledger.damage import finish_setting_aside, set_aside
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.rules import decide_after_reboot
from ssn_agent.ledger.seal import break_seal
from ssn_agent.ledger.stream import follow
from ssn_agent.ledger.verdicts import Decided, VerdictWriter
from ssn_agent.ledger.writer import LedgerWriter
from ssn_agent.log import configure, logger
from ssn_agent.processes import end_with_parent
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings, read_resolved


@dataclass(frozen=True)
class Numbering:
    """Where a camera's numbers go on."""

    epoch: UUID
    first: int


def numbering_without_journal(last: tuple[UUID, int | None] | None) -> Numbering:
    """Return where numbers go on where no journal can tell: the ledger's last stream decides."""
    if last is not None and last[1] is not None:
        return Numbering(last[0], last[1] + 1)
    return Numbering(uuid4(), 1)


def prepare(settings: Settings) -> None:
    """Do all of the above. Raises LedgerError, JournalError."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    files = RuntimeFiles(settings.runtime_dir)
    sealed = break_seal(settings.ledger_path)
    try:
        _prove_numbers(settings, files, sealed=sealed)
    except LedgerError as error:
        if not settings.ledger_path.is_file() or not _journals_go_on(settings, files):
            raise
        logger().error("the ledger cannot be used yet; journals go on", problem=str(error))
    for camera in settings.cameras:
        PixelSlots.create(files.pixels(camera))


def _prove_numbers(settings: Settings, files: RuntimeFiles, *, sealed: bool) -> None:
    engine = _sound_ledger(settings.ledger_path)
    messages = VerdictWriter(settings)
    writer = LedgerWriter(engine, str(settings.station), messages)
    writer.note_settings(settings.digest, settings.public_json(), "start")
    boot = boot_id()
    for camera in settings.cameras:
        path = files.journal(camera)
        numbering = _numbering(path, camera, boot, writer, messages, sealed=sealed)
        if numbering is not None:
            # Before a number is given out: "closed well" must not be read of it any more.
            writer.open_stream(camera, numbering.epoch)
            header = Header(camera, numbering.epoch, boot, numbering.first)
            Journal.create(path, header).close()
    for path in files.journals():
        if path.stem not in settings.cameras:
            _retire(path, writer, messages)
            files.pixels(path.stem).unlink(missing_ok=True)
    engine.dispose()


def _journals_go_on(settings: Settings, files: RuntimeFiles) -> bool:
    """Say whether every camera has a sound journal of this boot."""
    boot = boot_id()
    for camera in settings.cameras:
        try:
            with closing(Journal(files.journal(camera))) as journal:
                _check_camera(journal, camera)
                if journal.header.boot != boot:
                    return False
        except JournalError:
            return False
    return True


def _sound_ledger(path: Path) -> Engine:
    """Return an engine on a ledger of this version's schema; a damaged one is set aside."""
    finish_setting_aside(path)
    engine = open_database(path)
    try:
        migrate(engine)
    except LedgerDamaged as error:
        logger().error("the ledger begins anew", problem=str(error))
        set_aside(path)
        engine = open_database(path)
        migrate(engine)
    return engine


def _numbering(
    path: Path,
    camera: str,
    boot: UUID,
    writer: LedgerWriter,
    messages: VerdictWriter,
    *,
    sealed: bool,
) -> Numbering | None:
    """Return how a new journal is numbered, or None where the present one goes on."""
    if path.exists():
        try:
            with closing(Journal(path)) as journal:
                _check_camera(journal, camera)
                stream = follow(journal, writer)
                complete = stream.counts.closed + stream.pending == stream.triggers
                if complete and journal.header.boot == boot:
                    return None
                _close_triggers(journal, writer, messages, all_of_them=not complete)
                if complete:
                    return Numbering(journal.header.epoch, journal.head + 1)
                logger().error("the ledger lacks verdicts; a new epoch begins", camera=camera)
                return Numbering(uuid4(), 1)
        except JournalError as error:
            aside = rename_aside(path)
            logger().error("journal set aside", problem=str(error), file=str(aside))
    return numbering_without_journal(writer.last_stream(camera) if sealed else None)


def _retire(path: Path, writer: LedgerWriter, messages: VerdictWriter) -> None:
    """Close the journal of a camera that is no longer set, and delete it."""
    try:
        with closing(Journal(path)) as journal:
            _check_camera(journal, path.stem)
            stream = follow(journal, writer)
            complete = stream.counts.closed + stream.pending == stream.triggers
            _close_triggers(journal, writer, messages, all_of_them=not complete)
            if complete:
                writer.close_stream(path.stem, journal.header.epoch, journal.head)
    except JournalError as error:
        aside = rename_aside(path)
        logger().error("journal set aside", problem=str(error), file=str(aside))
        return
    path.unlink()
    logger().info("a camera that is no longer set is closed", camera=path.stem)


def _check_camera(journal: Journal, camera: str) -> None:
    if journal.header.camera != camera:
        msg = f"{journal.path}: is the journal of camera {journal.header.camera}"
        raise JournalError(msg)


def _close_triggers(
    journal: Journal, writer: LedgerWriter, messages: VerdictWriter, *, all_of_them: bool
) -> None:
    """Commit what the journal holds and the ledger lacks; open triggers are closed as lost.

    `all_of_them`: also what was committed once, to a ledger that is gone; it is published again.
    """
    utc_ns = time.time_ns()
    closed = []
    for entry in journal.entries(lambda entry: all_of_them or not entry.committed):
        decision = entry.decision or decide_after_reboot(entry, utc_ns)
        message = messages.message(journal.header, entry, decision)
        closed.append(Decided(journal.header, entry, message))
    writer.write(closed, Delivery())
    for item in closed:
        journal.commit(item.entry.sequence)


def main(settings_path: str, parent: str) -> None:
    """Prepare, or say on standard output why not and exit with 1."""
    end_with_parent(int(parent))  # two agents' preparations must never run at once
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "prepare")
    try:
        prepare(settings)
    except (AgentError, OSError) as error:
        sys.stdout.write(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
