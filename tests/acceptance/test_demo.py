"""`ssn-agent demo`, as `make demo` runs it."""

import re
import subprocess
import sys
from pathlib import Path

import cv2

from ssn_agent.demo.line import DEFECTS
from ssn_agent.ledger.reader import open_ledger, stats


def test_the_demo_finds_the_drawn_defects_and_ledger_and_subscriber_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssn_agent.cli", "demo", "--seconds", "30"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], check=False, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    (found,) = stats(open_ledger(folder / "ledger.sqlite"))
    assert found.triggers >= 100
    assert found.counts.closed == found.triggers
    assert not found.counts.invalid
    kinds = "|".join(("good", *DEFECTS))
    rows = re.findall(rf"│ ({kinds}) +│ (\d+) +│ (\d+) +│", done.stdout)
    drawn = {kind: (int(parts), int(failed)) for kind, parts, failed in rows}
    good_parts, good_failed = drawn.pop("good")
    bad_parts = sum(parts for parts, _ in drawn.values())
    bad_failed = sum(failed for _, failed in drawn.values())
    assert good_parts + bad_parts == found.triggers
    assert bad_failed >= 0.95 * bad_parts
    assert good_failed <= 0.02 * good_parts
    assert cv2.imread(str(folder / "contact-sheet.png")) is not None
    assert len(list((folder / "heatmaps").rglob("*.png"))) == found.counts.failed
