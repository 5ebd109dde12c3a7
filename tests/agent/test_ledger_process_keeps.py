"""The ledger process deletes what is old while it works, by settings that change while it does."""

import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.atomic import write_atomically
from ssn_agent.frames.layout import Accepted, Outcome
from ssn_agent.inference.image_files import image_path
from support.ledger_process import Ledger, fed_ledger, verdicts
from support.ledgers import rows
from support.mosquitto import Mosquitto, Subscriber, free_port
from support.records import FRAME, judged
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")
DAY_NS = 86_400 * 10**9


def old_part(ledger: Ledger, age_days: float) -> int:
    """Let a part come whose trigger was so long ago, by the wall clock."""
    now, utc_ns = time.monotonic_ns(), int(time.time_ns() - age_days * DAY_NS)
    sequence = ledger.journal.accept(Accepted(now, utc_ns, now + 60 * 10**9, None, None))
    ledger.journal.capture(sequence, FRAME)
    ledger.journal.finish(sequence, judged(Outcome.PASS, time.monotonic_ns()))
    return sequence


def test_a_shorter_retention_is_taken_over_at_run_time_and_the_counts_stay(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with (
        fed_ledger(tmp_path, mosquitto.port, retention={"verdict_days": 100}) as ledger,
        closing(Subscriber(mosquitto.port, tmp_path)) as subscriber,
    ):
        for age in (50, 20, 1):
            old_part(ledger, age)
        ledger.process = ledger.start_as_the_supervisor_does()
        wait_until(lambda: len(verdicts(subscriber)) == 3, 20, "not published")
        published = "SELECT count(*) FROM outbox WHERE published_at NOTNULL"
        wait_until(lambda: rows(ledger.settings, published) == [(3,)], 10, "not noted")
        retention = ledger.settings.retention.model_copy(update={"verdict_days": 10.0})
        changed = ledger.settings.model_copy(update={"retention": retention})
        resolved = ledger.settings.runtime_dir / "settings.json"
        write_atomically(resolved, changed.model_dump_json().encode())
        ledger.process.send_signal(signal.SIGHUP)
        left = "SELECT sequence FROM triggers"
        wait_until(lambda: rows(ledger.settings, left) == [(3,)], 10, "old verdicts stay")
        noted = rows(ledger.settings, "SELECT new FROM settings_changes ORDER BY id")
        assert json.loads(noted[-1][0])["retention"]["verdict_days"] == 10.0
        assert ledger.end(signal.SIGKILL) < 0
        ledger.start()  # it counts from what the ledger has

        def passed() -> int:
            statuses = [m.payload for m in subscriber.received() if m.topic.endswith("/status")]
            cameras = json.loads(statuses[-1])["cameras"]
            return int(cameras[0]["passed"]) if cameras else 0

        wait_until(lambda: passed() == 3, 20, "the counts do not add up")


def test_a_message_whose_picture_was_too_old_is_noted_as_undeliverable(tmp_path: Path) -> None:
    broker = Mosquitto(free_port(), tmp_path)  # away while the picture goes
    with fed_ledger(tmp_path, broker.port) as ledger:
        sequence = ledger.part(Outcome.FAIL, heatmap=True)
        epoch = ledger.journal.header.epoch
        picture = image_path(ledger.settings.heatmap_dir, "left", epoch, sequence)
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"picture")
        long_ago = time.time() - 31 * 86_400
        os.utime(picture, (long_ago, long_ago))
        ledger.start()
        wait_until(lambda: not picture.exists(), 20, "the picture stays")
        assert rows(ledger.settings, "SELECT count(*) FROM outbox WHERE problem NOTNULL") == [(0,)]
        broker.start()
        try:
            query = "SELECT problem FROM outbox WHERE file NOTNULL AND problem NOTNULL"
            wait_until(lambda: bool(rows(ledger.settings, query)), 20, "not noted")
            assert str(picture) in rows(ledger.settings, query)[0][0]
            assert ledger.end(signal.SIGTERM) == 0
        finally:
            broker.kill()
