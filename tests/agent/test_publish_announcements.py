"""Announcements by MQTT touch one file, and do nothing else."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.publish.announcements import touch
from ssn_contract.channel import MAX_ANNOUNCEMENT_BYTES
from ssn_contract.messages import StationStatus
from ssn_contract.topics import channel_topic
from support.ledger_process import Ledger, fed_ledger
from support.mosquitto import Mosquitto, Subscriber, program
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")

SOUND = {"schema_version": 1, "channel": "canary", "at": "2026-01-01T06:00:00Z"}
NOBODY = 65534
TOPIC = channel_topic("plant1", "canary")


def settings(folder: Path) -> dict[str, Any]:
    """Return settings with a channel, of a station at `plant1`."""
    root = folder / "root.json"
    root.write_text("{}")
    channel = {"url": "http://127.0.0.1:1", "root_file": root, "bundles": ["screw"]}
    return {"channel": {**channel, "name": "canary"}, "station": {"site": "plant1"}}


@pytest.fixture
def ledger(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Ledger]:
    with fed_ledger(tmp_path, mosquitto.port, **settings(tmp_path)) as made:
        yield made


def announce(broker: Mosquitto, text: str, topic: str = TOPIC) -> None:
    """Publish with mosquitto's own client, retained, and return when the broker has it."""
    command = [program("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-r", "-t", topic]
    subprocess.run([*command, "-s"], input=text.encode(), check=True)


def changed(ledger: Ledger) -> int:
    """Return when the file was touched; 0: never."""
    path = RuntimeFiles(ledger.settings.runtime_dir).announced
    return path.stat().st_mtime_ns if path.exists() else 0


def is_up(ledger: Ledger, broker: Mosquitto, folder: Path) -> None:
    """Return when its ledger process is connected."""
    ledger.start()
    with closing(Subscriber(broker.port, folder)) as subscriber:

        def online() -> bool:
            found = [m.payload for m in subscriber.received() if m.topic.endswith("/status")]
            return any(StationStatus.model_validate_json(m).state == "online" for m in found)

        wait_until(online, 20, "not connected")


def test_an_announcement_touches_the_file_and_each_one_touches_it_again(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    is_up(ledger, mosquitto, tmp_path)
    assert changed(ledger) == 0
    announce(mosquitto, json.dumps(SOUND))
    wait_until(lambda: changed(ledger) > 0, 10, "the file is not touched")
    first = changed(ledger)
    announce(mosquitto, json.dumps(SOUND))
    wait_until(lambda: changed(ledger) > first, 10, "the file is not touched again")


def test_a_station_that_is_new_to_the_broker_is_told_the_last_announcement(
    ledger: Ledger, mosquitto: Mosquitto
) -> None:
    announce(mosquitto, json.dumps(SOUND))
    ledger.start()
    wait_until(lambda: changed(ledger) > 0, 20, "the file is not touched")


def test_what_is_no_announcement_of_this_channel_is_logged_acknowledged_and_touches_nothing(
    ledger: Ledger, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    is_up(ledger, mosquitto, tmp_path)
    wrong = [
        "{",
        json.dumps({**SOUND, "version": "9.9.9"}),
        json.dumps({**SOUND, "schema_version": 2}),
        json.dumps({**SOUND, "channel": "stable"}),
        json.dumps(SOUND) + " " * MAX_ANNOUNCEMENT_BYTES,
    ]
    for text in wrong:
        announce(mosquitto, text)
    announce(
        mosquitto, json.dumps({**SOUND, "channel": "stable"}), channel_topic("plant1", "stable")
    )
    announce(mosquitto, json.dumps(SOUND), channel_topic("plant2", "canary"))

    def refused() -> int:
        return ledger.log.read_text().count("announcement refused")

    wait_until(lambda: refused() == len(wrong), 10, "not all are refused")
    assert changed(ledger) == 0
    # Forty more than the broker sends unacknowledged: so the refused ones were acknowledged.
    for _ in range(40):
        announce(mosquitto, "{")
    announce(mosquitto, json.dumps(SOUND))
    wait_until(lambda: changed(ledger) > 0, 10, "a sound one does not come through")
    assert "Traceback" not in ledger.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_a_file_that_root_made_keeps_no_announcement_back() -> None:
    with TemporaryDirectory(prefix="ssn-") as folder:
        file = Path(folder) / "announced"
        touch(file)
        os.utime(file, (1, 1))
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            touch(file)
        finally:
            os.seteuid(0)
        assert file.stat().st_mtime > 1
