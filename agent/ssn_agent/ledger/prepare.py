"""Before anything runs: `python -m ssn_agent.ledger.prepare SETTINGS PARENT`.

Brings the ledger to this version's schema, notes the settings in force, and gives every camera a
journal whose numbering is proven:

    a journal of this boot                 goes on as it is
    a journal of an earlier boot           its open triggers are closed as INVALID(lost); goes on
    a journal of which the ledger lacks    its open triggers are closed as INVALID(lost); a new
    committed verdicts (lost, or another   epoch, from 1: its counts would never add up again
    station's)
    no sound journal, ledger closed well   goes on after the ledger's last number
    no sound journal otherwise             a new epoch, from 1: a number could have been given out
                                           that the ledger never saw
"""

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from ssn_agent.errors import AgentError, JournalError
from ssn_agent.frames.journal import Journal, boot_id, rename_aside
from ssn_agent.frames.layout import Header
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.rules import decide_after_reboot
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
    engine = open_database(settings.ledger_path)
    migrate(engine)
    messages = VerdictWriter(settings)
    writer = LedgerWriter(engine, str(settings.station), messages)
    writer.note_settings(settings.digest, settings.public_json(), "start")
    boot = boot_id()
    for camera in settings.cameras:
        path = files.journal(camera)
        numbering = _numbering(path, camera, boot, writer, messages)
        if numbering is not None:
            # Before a number is given out: "closed well" must not be read of it any more.
            writer.open_stream(camera, numbering.epoch)
            header = Header(camera, numbering.epoch, boot, numbering.first)
            Journal.create(path, header).close()
        PixelSlots.create(files.pixels(camera))
    engine.dispose()


def _numbering(
    path: Path, camera: str, boot: UUID, writer: LedgerWriter, messages: VerdictWriter
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
                _close_open_triggers(journal, writer, messages)
                if complete:
                    return Numbering(journal.header.epoch, journal.head + 1)
                logger().error("the ledger lacks verdicts; a new epoch begins", camera=camera)
                return Numbering(uuid4(), 1)
        except JournalError as error:
            aside = rename_aside(path)
            logger().error("journal set aside", problem=str(error), file=str(aside))
    return numbering_without_journal(writer.last_stream(camera))


def _check_camera(journal: Journal, camera: str) -> None:
    if journal.header.camera != camera:
        msg = f"{journal.path}: is the journal of camera {journal.header.camera}"
        raise JournalError(msg)


def _close_open_triggers(journal: Journal, writer: LedgerWriter, messages: VerdictWriter) -> None:
    utc_ns = time.time_ns()
    closed = []
    for entry in journal.entries(lambda entry: not entry.committed):
        decision = entry.decision or decide_after_reboot(entry, utc_ns)
        message = messages.message(journal.header, entry, decision)
        closed.append(Decided(journal.header, entry, message))
    writer.write(closed, Delivery())
    for item in closed:
        journal.commit(item.entry.sequence)


def main(settings_path: str, parent: str) -> None:
    """Prepare, or say on standard error why not and exit with 1."""
    end_with_parent(int(parent))  # two agents' preparations must never run at once
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "prepare")
    try:
        prepare(settings)
    except (AgentError, OSError) as error:
        sys.exit(f"ssn-agent: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
