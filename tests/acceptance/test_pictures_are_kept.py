"""Pictures worth a label: kept by a running station, labelled, and exported for the trainer."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.inference.image_writer import MAX_WAITING
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.http_api import ask, write_token
from support.mosquitto import Mosquitto, answers, free_port
from support.parts import draw_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")
ROI = {"x": 8, "y": 5, "width": 100, "height": 70}


def read(file: "Path | str | bytes") -> NDArray[Any]:
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def crop(parts: Path, part_id: str) -> NDArray[Any]:
    rows, columns = slice(5, 75), slice(8, 108)
    return read(parts / part_id)[rows, columns]


def command(agent: Agent, *arguments: object) -> str:
    """Run `ssn-agent` on the station's settings and return what it said."""
    program = [sys.executable, "-m", "ssn_agent.cli", *map(str, arguments), "-c", str(agent.config)]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kept(agent: Agent) -> dict[str, tuple[str, int, str]]:
    """Return epoch, number and file of each part whose picture was promised."""
    rows = agent.query(
        "SELECT part_id, epoch, sequence, image_file FROM verdicts"
        " JOIN triggers ON triggers.id = trigger_id JOIN streams ON streams.id = stream_id"
        " WHERE image_file IS NOT NULL ORDER BY triggers.id"
    )
    return {part: (epoch, sequence, file) for part, epoch, sequence, file in rows}


def test_a_fail_s_picture_is_that_of_the_source_also_when_inference_is_killed_meanwhile(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    truth = draw_parts(parts, 48)
    settings = {
        "bundle": write_brightness_bundle(tmp_path / "b.ssn"),
        "source": {"kind": "folder", "path": parts, "fps": 20},
        "roi": ROI,
        "keep": {"pass_share": 0.0, "near": 0.0},
    }
    port = free_port()
    with station(tmp_path, mosquitto.port, **settings) as agent:
        agent.top["http"] = {"port": port, "token_file": str(write_token(tmp_path))}
        agent.start()
        wait_until(lambda: len(kept(agent)) >= 3, 60, "no picture is kept")
        agent.child("inference").kill()
        wait_until(lambda: agent.verdicts() == len(truth), 60, "not all are judged")
        wait_until(lambda: answers(port), 60, "the API does not answer")
        found = kept(agent)
        failed = {
            part
            for (part,) in agent.query(
                "SELECT part_id FROM verdicts JOIN triggers ON id = trigger_id"
                " WHERE verdict = 'FAIL'"
            )
        }
        assert set(found) == failed
        statuses = []
        for part, (epoch, sequence, file) in found.items():
            key = f"left/{epoch[:8]}-{epoch[8:12]}-{epoch[12:16]}-{epoch[16:20]}-{epoch[20:]}"
            answer = ask(port, "GET", f"/v1/verdicts/{key}/{sequence}/image")
            statuses.append(answer.status)
            if answer.status == 200:
                np.testing.assert_array_equal(read(answer.body), crop(parts, part))
                assert answer.body == Path(file).read_bytes()
        # What was promised when inference was killed may be missing, and is told as such.
        assert set(statuses) <= {200, 404}
        assert statuses.count(404) <= MAX_WAITING
        assert statuses[-1] == 200
        assert agent.stop() == 0, agent.log()


def test_pictures_are_collected_without_a_bundle_labelled_and_exported(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    truth = draw_parts(parts, 4)
    source = {"kind": "folder", "path": parts}
    with station(tmp_path, mosquitto.port, mode="collect", source=source, roi=ROI) as agent:
        agent.run_once()
        verdicts = set(agent.query("SELECT verdict, reason FROM verdicts"))
        assert verdicts == {("INVALID", "no_model")}
        assert set(kept(agent)) == set(truth)
        for part, bad in truth.items():
            said = "bad" if bad else "good"
            command(agent, "label", said, "left", "--part", part, "--by", "m.weber")
        told = command(agent, "ledger", "export", "--for-training", tmp_path / "out")
        assert "4 images, 3 good, 1 bad, 0 disagreements, 0 missing" in told
        with (tmp_path / "out" / "labels.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert {row["part_id"]: row["label"] == "bad" for row in table} == truth
        for row in table:
            exported = read(tmp_path / "out" / row["image"])
            np.testing.assert_array_equal(exported, crop(parts, row["part_id"]))
