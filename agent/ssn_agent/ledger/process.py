"""The ledger process: `python -m ssn_agent.ledger.process SETTINGS PARENT`.

It owns the deadlines, the database and the line to the broker. One turn, in this order:

1. Decide what is due, and note each decision in its journal.
2. Commit the decided verdicts with their defects and messages: on the disk when that returns.
3. Note the commits in the journals. A death between 2 and 3 is harmless: the rows are there.
4. Hand committed messages to the broker, up to a window; note what it has acknowledged.

While the database cannot be written, verdicts go out marked `durable: false`, stay in the journal,
and are committed when it can be written again, also where it could not be opened at the start.
Where the journal has no room for more, they are INVALID(ledger), and counted alone. Where the
database's file is damaged, it is set aside, and the agent begins again with a new one (`damage`).
"""

import os
import sys
import time
from pathlib import Path

from ssn_agent.capture.settings import takes_triggers
from ssn_agent.errors import AgentError, LedgerDamaged, LedgerError
from ssn_agent.frames.heartbeat import DISK_S, Heartbeat
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Decision
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.labels.intake import LabelIntake
from ssn_agent.ledger.challenges import Challenges
from ssn_agent.ledger.damage import IntegrityCheck, alarms, set_aside
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.figures import Figures
from ssn_agent.ledger.housekeeping import Housekeeping
from ssn_agent.ledger.label_writer import LabelWriter
from ssn_agent.ledger.model_events import ModelEvents, ModelEventWriter
from ssn_agent.ledger.reporting import Reporting
from ssn_agent.ledger.seal import seal
from ssn_agent.ledger.status import offline_status, station_status
from ssn_agent.ledger.stream import AT_ONCE, PendingTriggers
from ssn_agent.ledger.unwritten import Unwritten
from ssn_agent.ledger.verdicts import Decided, VerdictWriter, late_columns
from ssn_agent.ledger.writer import Counts, LedgerWriter
from ssn_agent.log import configure, logger
from ssn_agent.metrics.report import write_report
from ssn_agent.processes import LEDGER_DAMAGED, Stop, end_with_parent, reload_asked_by
from ssn_agent.publish.announcements import Announcements
from ssn_agent.publish.events import Arrived, Connected, Subscribed
from ssn_agent.publish.mqtt import BrokerLink, client_id
from ssn_agent.publish.outbox import Outbox
from ssn_agent.publish.triggers import TriggerForwarder
from ssn_agent.settings import Settings, read_resolved
from ssn_agent.supervisor.note import read_note
from ssn_contract.messages import StationStatus
from ssn_contract.topics import Topics

TICK_S = 0.02
"""How far a deadline may be overrun before it is noticed, and what a lost ring costs."""
ACK_DELAY_S = 0.2
"""Acknowledgements wait this long for a commit to travel with, to spare the disk."""
LEDGER_RETRY_S = 1.0
OPEN_S = 120.0
"""To take up where the process before stopped, on a slow disk."""
DRAIN_S = 10.0
"""How long an orderly end waits for the broker; what is left is sent at the next start."""
WRITE_S = 10.0
"""How long, after the last deadline, it waits for a ledger that cannot be written."""


class LedgerProcess:
    """Verdicts into the ledger, then to the broker."""

    def __init__(self, settings: Settings, files: RuntimeFiles) -> None:
        """Open everything but the database, which may be away. Raises JournalError."""
        self._settings = settings
        self._files = files
        self._heart = Heartbeat(files.heartbeat("ledger"))
        self._heart.beat(OPEN_S)
        self._topics = Topics(settings.station)
        self._messages = VerdictWriter(settings)
        self._engine = open_database(settings.ledger_path)
        self._is_migrated = False
        self._writer = LedgerWriter(self._engine, str(settings.station), self._messages)
        self._integrity = IntegrityCheck(settings.ledger_path)
        self._streams: dict[str, PendingTriggers] = {}
        for name in settings.cameras:
            self._streams[name] = PendingTriggers(Journal(files.journal(name)), Counts())
        self._bell = Doorbell(files.ledger_bell)
        self._link = BrokerLink(
            settings.broker, client_id(settings.station), Ringer(files.ledger_bell)
        )
        self._outbox = Outbox(self._link, self._writer)
        self._unwritten = Unwritten(self._streams, self._messages, self._link, self._topics)
        triggered = [n for n, c in settings.cameras.items() if takes_triggers(c.source)]
        self._triggers = TriggerForwarder(
            {n: (self._topics.trigger(n), files.triggers(n)) for n in triggered},
            self._link.acknowledge,
        )
        acknowledge = self._link.acknowledge
        self._announcements = Announcements(settings, files.announced, acknowledge)
        labels = LabelWriter(self._engine, str(settings.station))
        self._housekeeping = Housekeeping(settings, labels.forget)
        self._challenges = Challenges(settings, self._engine)
        topic = self._topics.label
        self._labels = LabelIntake(topic, files.labels, acknowledge, labels)
        self._ledger_problem: str | None = None
        self._retry_at = 0.0
        self._outbox_problem: str | None = None
        self._pump_at = 0.0
        self._ack_at: float | None = None
        self._figures = Figures(settings.cameras)
        self._models = ModelEvents(settings, ModelEventWriter(self._engine))
        self._reporting = Reporting(settings, files, self._link)
        self._note_settings_at: float | None = 0.0
        """None: the settings in force are noted."""

    def run(self, stop: Stop) -> bool:
        """Work until asked to stop, then close what is pending and drain the outbox.

        Return whether every trigger has its verdict in the ledger.
        """
        offline = offline_status(self._settings).model_dump_json()
        topics = [self._labels.topic, *self._triggers.topics]
        self._link.start(self._topics.status, offline, topics, self._announcements.topics)
        while not stop:
            self._turn()
        deadline_ms = max(camera.deadline_ms for camera in self._settings.cameras.values())
        patience_ends = time.monotonic() + deadline_ms / 1000 + WRITE_S
        while self._pending and time.monotonic() < patience_ends:
            self._turn()
        patience_ends = time.monotonic() + DRAIN_S
        while not self._outbox.idle and time.monotonic() < patience_ends:
            self._turn()
        if not self._outbox.idle:
            logger().warning("messages left for the next start", problem=self._outbox.problem)
        self._close()
        return not self._pending

    def _turn(self) -> None:
        self._heart.beat()
        self._bell.wait(TICK_S)
        self._heart.beat(DISK_S)
        self._heed_reload()
        for event in self._link.events():
            if isinstance(event, Arrived) and event.topic.endswith("/label"):
                self._labels.take(event)
            elif isinstance(event, Arrived) and event.topic in self._announcements.topics:
                self._announcements.take(event)
            elif isinstance(event, Arrived | Subscribed):
                self._triggers.take(event)
            else:
                self._outbox.take(event)
            if isinstance(event, Connected):
                self._reporting.connected()
                self._challenges.forget()
                self._unwritten.forget()
        self._triggers.turn()
        self._integrity.turn()
        self._write()
        self._heart.beat(DISK_S)
        can_write = self._is_migrated and time.monotonic() >= self._retry_at
        self._labels.turn(can_write=can_write)
        self._challenges.turn(self._reporting.say, can_write=can_write)
        self._keep_late_results()
        notes = {name: stream.journal.model_note() for name, stream in self._streams.items()}
        self._reporting.tell(self._models.turn(notes, can_write=can_write))
        # First: a backlog would leave it no room at a broker that takes few at once.
        self._reporting.turn(notes, self._models.update, self._note_how_it_does)
        self._deliver()
        self._housekeeping.turn(ledger_is_well=self._ledger_problem is None)

    def _heed_reload(self) -> None:
        """Take over settings that changed, and note in the ledger what is in force and by whom.

        Also at the start: the process before may have died before it noted them.
        """
        if reload_asked_by() is not None:
            self._settings = read_resolved(self._files.settings)
            configure(self._settings.log_level, "ledger")
            self._messages.take_over(self._settings)
            self._link.look_at_certificates()
            self._housekeeping.take_over(self._settings)
            self._models.take_over(self._settings)
            self._reporting.take_over(self._settings)
            self._note_settings_at = 0.0
        if self._note_settings_at is None or time.monotonic() < self._note_settings_at:
            return
        who = read_note(self._files.supervisor).changed_by
        try:
            self._writer.note_settings(self._settings.digest, self._settings.public_json(), who)
            self._note_settings_at = None
        except LedgerError as error:
            logger().error("the settings are not noted yet", problem=str(error))
            self._note_settings_at = time.monotonic() + LEDGER_RETRY_S

    def _write(self) -> None:
        """Steps 1 to 3."""
        if time.monotonic() < self._retry_at or not self._take_up():
            self._unwritten.go_on(connected=self._outbox.connected)
            return
        due = self._due()
        acks_are_due = self._ack_at is not None and time.monotonic() >= self._ack_at
        delivery = self._outbox.take_delivery()
        if delivery and self._ack_at is None:
            self._ack_at = time.monotonic() + ACK_DELAY_S
        if not due and not (delivery and acks_are_due):
            self._outbox.put_back(delivery)
            return
        began = time.monotonic()
        try:
            newest = self._writer.write([item for _, item, _ in due], delivery)
        except LedgerError as error:
            self._outbox.put_back(delivery)
            self._ledger_failed(error)
            self._unwritten.go_on(connected=self._outbox.connected)
            return
        self._figures.committed(time.monotonic() - began, (item for _, item, _ in due), delivery)
        self._ack_at = None
        self._ledger_is_well()
        for stream, item, decision in due:
            stream.committed(item.entry, decision, is_test=item.message.challenge is not None)
        if due:
            self._outbox.wake(newest)

    def _take_up(self) -> bool:
        """Have the cameras' streams and the database agree where they do not; say whether they do.

        At the start, and after an outage that was longer than the journals.
        """
        behind = [stream for stream in self._streams.values() if not stream.is_taken_up]
        try:
            if not self._is_migrated:  # `prepare` does it, unless the disk was full
                self._heart.beat(OPEN_S)
                migrate(self._engine)
                self._is_migrated = True
            self._outbox.open()
            for stream in behind:
                self._heart.beat(OPEN_S)
                stream.take_up(self._writer)
        except LedgerError as error:
            self._ledger_failed(error)
            return False
        if behind:
            self._ledger_is_well()
        return True

    def _ledger_is_well(self) -> None:
        if self._ledger_problem is not None:
            logger().info("the ledger can be written again")
            self._ledger_problem = None
            self._unwritten.forget()

    def _due(self) -> "list[tuple[PendingTriggers, Decided, Decision]]":
        found = []
        at_once = max(1, AT_ONCE // len(self._streams))
        for stream in self._streams.values():
            stream.refresh()
            # Read after the journal: no trigger in it is younger than this.
            monotonic_ns, utc_ns = time.monotonic_ns(), time.time_ns()
            header = stream.journal.header
            for entry, decision in stream.due(monotonic_ns, utc_ns, at_once):
                item = self._messages.decided(header, entry, decision, monotonic_ns)
                found.append((stream, item, decision))
        return found

    def _ledger_failed(self, error: LedgerError) -> None:
        if self._ledger_problem is None:
            logger().error("the ledger cannot be written", problem=str(error))
        self._ledger_problem = str(error)
        self._retry_at = time.monotonic() + LEDGER_RETRY_S
        self._writer.close()  # or its file would hold a read-only file system back from a new mount

    def _deliver(self) -> None:
        """Step 4."""
        if self._ledger_problem is not None or time.monotonic() < self._pump_at:
            return
        try:
            self._outbox.pump()
        except LedgerError as error:
            if self._outbox_problem is None:
                logger().error("the outbox cannot be read", problem=str(error))
            self._outbox_problem = str(error)
            self._pump_at = time.monotonic() + LEDGER_RETRY_S
            return
        self._outbox_problem = None

    def _keep_late_results(self) -> None:
        if self._ledger_problem is not None:
            return
        for name, stream in self._streams.items():
            late = {
                entry.sequence: late_columns(entry, entry.result)
                for entry in stream.late_results()
                if entry.result is not None
            }
            if not late:
                continue
            self._heart.beat(DISK_S)
            try:
                self._writer.keep_late(name, stream.journal.header.epoch, late)
            except LedgerError as error:
                logger().error("late results not kept", camera=name, problem=str(error))

    def _note_how_it_does(self) -> StationStatus:
        """Put it into a file for the endpoint and `ssn-agent status`; return it for the broker."""
        problem = self._ledger_problem or self._outbox_problem
        try:
            undelivered, labels = self._writer.count_undelivered(), self._labels.counts()
            self._figures.ask_delays(self._writer)
        except LedgerError as error:
            undelivered, labels, problem = None, None, str(error)
        status = station_status(
            self._settings,
            self._streams,
            ledger_problem=problem,
            broker_problem=self._outbox.problem or self._triggers.problem or self._link.problem,
            refused_triggers=self._triggers.refused,
            labels=labels,
            refused_labels=self._labels.refused,
            undelivered=undelivered,
            challenges=self._challenges.standings,
            ledger_alarms=[
                *alarms(self._settings.ledger_path),
                *self._housekeeping.alarms(),
                *self._labels.alarms(),
                *self._models.alarms(),
                *self._link.certificates.alarms(),
            ],
        )
        metrics = self._figures.message(
            status,
            self._streams,
            self._models.update,
            self._link.certificates.ends,
            broker_connected=self._outbox.connected,
        )
        write_report(self._files.figures, metrics)
        return status

    @property
    def _pending(self) -> bool:
        return any(s.pending or not s.is_taken_up for s in self._streams.values())

    def _close(self) -> None:
        for name, stream in self._streams.items():
            if stream.pending or not stream.is_taken_up:
                problem = self._ledger_problem
                logger().error("triggers left for the next start", camera=name, problem=problem)
                continue
            try:
                self._writer.close_stream(name, stream.journal.header.epoch, stream.journal.head)
            except LedgerError as error:
                logger().error("the end is not noted", camera=name, problem=str(error))
        text = offline_status(self._settings).model_dump_json()
        said = self._link.publish(self._topics.status, text, retain=True) is not None
        self._link.stop(with_will=not said)
        self._triggers.close()
        self._labels.close()
        self._writer.close()
        try:
            seal(self._settings.ledger_path)
        except OSError as error:
            logger().error("the ledger is not sealed: numbers may begin anew", problem=str(error))


def main(settings_path: str, parent: str) -> None:
    """Run until asked to stop."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "ledger")
    try:
        closed = LedgerProcess(settings, RuntimeFiles(settings.runtime_dir)).run(stop)
    except LedgerDamaged as error:
        logger().error("the ledger process cannot go on", problem=str(error))
        set_aside(settings.ledger_path)
        sys.stderr.flush()
        os._exit(LEDGER_DAMAGED)  # an orderly end closes the connection, which writes to the file
    except AgentError as error:
        logger().error("the ledger process cannot go on", problem=str(error))
        sys.exit(error.exit_code)
    sys.exit(0 if closed else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
