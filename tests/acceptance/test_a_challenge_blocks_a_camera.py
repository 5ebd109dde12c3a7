"""A station whose camera is challenged: what fails it blocks the parts, and what clears it."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import pytest

from ssn_agent.frames.pixels import Pixels
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.challenges import folders, plain, spot, standing_of
from support.mosquitto import Mosquitto, Subscriber
from support.waiting import wait_until


def show(agent: Agent, pixels: Pixels, name: str) -> tuple[str, str | None, str | None]:
    """Put a part before the camera; return its verdict, reason and mark."""
    folder = agent.folder / "images"
    aside, file = folder / f"{name}.part", f"{name}.png"
    done, png = cv2.imencode(".png", pixels)
    assert done
    aside.write_bytes(png.tobytes())
    aside.rename(folder / file)
    query = (
        "SELECT verdict, reason, challenge, part_id "
        "FROM verdicts JOIN triggers ON triggers.id = trigger_id"
    )

    def found() -> list[tuple[str, str | None, str | None]]:
        return [(v, reason, mark) for v, reason, mark, part in agent.query(query) if part == file]

    wait_until(lambda: bool(found()), 30, f"no verdict on {name}")
    return found()[0]


def command(agent: Agent, *arguments: str) -> None:
    """Run `ssn-agent challenge`."""
    whole = [sys.executable, "-m", "ssn_agent.cli", "challenge", *arguments]
    done = subprocess.run(
        [*whole, "-c", str(agent.config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def until(agent: Agent, state: str) -> None:
    """Wait until the camera's challenge stands so."""

    def stands() -> bool:
        standing = standing_of(agent.folder / "data")
        return standing is not None and standing.state == state

    wait_until(stands, 30, f"not {state}")


@pytest.mark.needs("mosquitto")
def test_a_wrong_master_blocks_parts_over_a_killed_process_until_it_is_right_or_cleared(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    (tmp_path / "images").mkdir()
    camera: dict[str, Any] = {
        "source": {"kind": "folder", "path": str(tmp_path / "images"), "watch": True},
        "bundle": write_brightness_bundle(tmp_path / "brightness.ssn"),
        "deadline_ms": 20_000,
        "fitness": {"frozen_after": 0},  # drawn pictures are alike
        "challenge": {
            **folders(tmp_path / "known"),
            "good_parts": ["MASTER-GOOD*"],
            "bad_parts": ["MASTER-BAD*"],
        },
    }
    subscriber = Subscriber(mosquitto.port, tmp_path)
    with closing(subscriber), station(tmp_path, mosquitto.port, **camera) as agent:
        agent.start()
        wait_until(lambda: "watching" in agent.log(), 30, "the folder is not watched")
        assert show(agent, plain(), "P-1") == ("PASS", None, None)  # it is due, and goes on
        assert show(agent, plain(), "MASTER-GOOD-1") == ("PASS", None, "good")
        assert show(agent, plain(), "MASTER-BAD-1") == ("PASS", None, "bad")
        assert show(agent, plain(), "P-2") == ("INVALID", "challenge", None)
        agent.child("inference").kill()
        assert show(agent, plain(), "P-3") == ("INVALID", "challenge", None)
        assert show(agent, spot(), "MASTER-BAD-2") == ("FAIL", None, "bad")
        until(agent, "passed")
        assert show(agent, plain(), "P-4") == ("PASS", None, None)

        bad = tmp_path / "known" / "bad" / "bad.png"
        assert cv2.imwrite(str(bad), plain())
        command(agent, "run", "left", "--by", "anna")
        until(agent, "failed")
        assert show(agent, plain(), "P-5") == ("INVALID", "challenge", None)
        command(agent, "clear", "left", "--by", "m.weber", "--reason", "another picture")
        assert show(agent, plain(), "P-6") == ("PASS", None, None)
        assert agent.stop() == 0, agent.log()

        said = [m for m in subscriber.received() if m.topic.endswith("/left/challenge")]
        states = [json.loads(message.payload)["state"] for message in said]
        assert states[-1] == "passed"
        assert {"due", "failed"} <= set(states)
        assert json.loads(said[-1].payload)["cleared"]["who"] == "m.weber"
        kept = agent.query("SELECT who, why FROM challenges WHERE what = 'cleared'")
        assert kept == [("m.weber", "another picture")]
        [counts] = agent.query(
            "SELECT count(*), sum(verdict = 'INVALID'), sum(challenge IS NOT NULL) FROM verdicts"
        )
        assert tuple(counts) == (9, 3, 3)
