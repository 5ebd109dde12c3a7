"""Every line of the log names its process, time and level, and the journal knows the level."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import logging, threading, warnings
from ssn_agent.log import configure, logger
configure("debug", "capture:left")
logger().debug("a")
logger().info("b")
logger().warning("c")
logger().error("d", problem="two\\nlines")
thread = threading.Thread(target=lambda: logger().error("e"))
thread.start()
thread.join()
warnings.warn("f")
logging.getLogger("paho").error("%s", "g")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
configure("error", "capture:left")  # as a reload does
logger().info("not this")
raise RuntimeError("h")
"""
LEVELS = ["debug", "info", "warning", *["error"] * 2, "warning", "error", *["critical"] * 2]


def logged(folder: Path, *, journal: bool) -> list[str]:
    """Return the lines of a process whose standard error is the journal's stream, or a file."""
    with (folder / "log").open("wb") as file:
        stream = os.fstat(file.fileno())
        named = f"{stream.st_dev}:{stream.st_ino}" if journal else "1:1"
        environment = {**os.environ, "JOURNAL_STREAM": named}
        command = [sys.executable, "-c", PROGRAM]
        assert subprocess.run(command, stderr=file, env=environment, check=False).returncode == 1
    return (folder / "log").read_text().splitlines()


def parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_every_line_of_a_process_names_it_its_time_and_its_level_whoever_wrote_it(
    tmp_path: Path,
) -> None:
    lines = parsed(logged(tmp_path, journal=False))
    assert [line["level"] for line in lines] == LEVELS
    assert {line["process"] for line in lines} == {"capture:left"}
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[3]["problem"] == "two\nlines"
    assert "f" in lines[5]["event"]
    assert (lines[6]["event"], lines[6]["library"]) == ("g", "paho")
    assert "ZeroDivisionError" in lines[7]["exception"]
    assert "RuntimeError: h" in lines[8]["exception"]


def test_in_the_journal_each_line_begins_with_its_priority(tmp_path: Path) -> None:
    lines = logged(tmp_path, journal=True)
    numbers = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
    assert [line[:3] for line in lines] == [f"<{numbers[level]}>" for level in LEVELS]
    assert [line["level"] for line in parsed([line[3:] for line in lines])] == LEVELS
