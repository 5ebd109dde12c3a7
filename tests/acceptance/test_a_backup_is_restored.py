"""A backup of a running station is put back as docs/operations.md says; no number comes twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")
KEYS = (
    "SELECT epoch, sequence, verdict FROM streams JOIN triggers ON stream_id = streams.id "
    "JOIN verdicts ON trigger_id = triggers.id"
)


def restore(agent: Agent, saved: Path) -> None:
    """Put a backup in the ledger's place."""
    data, replaced = agent.folder / "data", agent.folder / "data" / "replaced"
    replaced.mkdir()
    for path in data.glob("ledger.sqlite*"):
        path.rename(replaced / path.name)
    subprocess.run(["install", "-m", "640", saved, data / "ledger.sqlite"], check=True)


def test_a_restored_backup_begins_a_new_epoch_and_gives_no_key_to_two_parts(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    draw_parts(tmp_path / "parts", 20)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 20, "loop": True}
    with station(tmp_path, mosquitto.port, bundle=bundle, source=source) as agent:
        agent.start()
        agent.wait_for_more(20)
        saved = tmp_path / "saved.sqlite"
        command = [sys.executable, "-m", "ssn_agent.cli", "ledger", "backup", "--out", str(saved)]
        command += ["--ledger", str(tmp_path / "data" / "ledger.sqlite")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        assert "sound" in said
        agent.wait_for_more(20)  # the agent goes on, by numbers that the backup lacks
        assert agent.stop() == 0
        newer = set(agent.query(KEYS))
        restore(agent, saved)
        assert set(agent.query(KEYS)) < newer
        epochs = {epoch for epoch, _, _ in newer}
        agent.start()
        wait_until(
            lambda: sum(epoch not in epochs for epoch, _, _ in agent.query(KEYS)) >= 20,
            60,
            "no verdicts of a new epoch",
        )
        assert agent.stop() == 0
        found = set(agent.query(KEYS))
    since = sorted(sequence for epoch, sequence, _ in found if epoch not in epochs)
    assert since == list(range(1, len(since) + 1))
    # The journals were still there, so what the backup lacks is in it again.
    assert {row for row in found if row[0] in epochs} == newer
