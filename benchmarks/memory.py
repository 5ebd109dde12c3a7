"""What the agent's processes hold in memory with one camera, as proportional set size (PSS).

    python benchmarks/memory.py [--bundle FILE] [--seconds 60]

The agent, started by its own command, judges a folder of drawn pictures of 640 x 480 at 8 a second,
with a broker and the engines that this environment has: without the extra `openvino`, ONNX Runtime
alone. Printed are the largest sum of the run, and each process's PSS at that moment and at the end.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import cv2

from ssn_agent.demo.line import draw_part

PORT = 18839
PARTS = 50
INTERVAL_S = 0.5


def settings(folder: Path, bundle: Path) -> Path:
    """Draw parts, write a station's settings and return their file."""
    (folder / "parts").mkdir()
    for number in range(PARTS):
        defect = "scratch" if number % 5 == 0 else None
        cv2.imwrite(str(folder / "parts" / f"{number}.png"), draw_part(number, defect).image)
    path = folder / "agent.toml"
    path.write_text(
        f"data_dir = {json.dumps(str(folder / 'data'))}\n"
        f"runtime_dir = {json.dumps(str(folder / 'run'))}\n"
        f"[broker]\nport = {PORT}\n"
        f"[cameras.left]\nbundle = {json.dumps(str(bundle))}\ndeadline_ms = 2000\n"
        f'[cameras.left.source]\nkind = "folder"\npath = {json.dumps(str(folder / "parts"))}\n'
        "fps = 8.0\nloop = true\n"
    )
    return path


def sizes_mb(agent: int) -> dict[str, float]:
    """Return the PSS of the agent and its children, by what they are."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    found: dict[str, float] = {}
    for process in (agent, *map(int, children)):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            command = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):  # a trial that has just ended
            continue
        pss = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        if pss:
            module = command[command.index("-m") + 1] if "-m" in command else command[0]
            name = "supervisor" if process == agent else module.removeprefix("ssn_agent.")
            found[name] = found.get(name, 0.0) + int(pss.group(1)) * 1024 / 1e6
    return found


def show(what: str, sizes: dict[str, float]) -> None:
    """Print one line."""
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items()))
    print(f"{what}: {sum(sizes.values()):.0f} MB ({parts})")


def _mosquitto() -> str:
    found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto")
    return found


def main() -> None:
    """Run the agent and watch it."""
    demo = resources.files("ssn_agent.demo").joinpath("demo-1.0.0.ssn")
    parser = argparse.ArgumentParser(description="The agent's memory with one camera.")
    parser.add_argument("--bundle", type=Path, default=Path(str(demo)))
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "ssn_agent.cli", "run", "-c"]
        broker = subprocess.Popen([_mosquitto(), "-p", str(PORT)], stderr=subprocess.DEVNULL)
        with (folder / "log").open("wb") as log:
            agent = subprocess.Popen([*command, str(settings(folder, options.bundle))], stderr=log)
        largest: dict[str, float] = {}
        now: dict[str, float] = {}
        ends_at = time.monotonic() + options.seconds
        try:
            while time.monotonic() < ends_at and agent.poll() is None:
                now = sizes_mb(agent.pid)
                largest = max(largest, now, key=lambda sizes: sum(sizes.values()))
                time.sleep(INTERVAL_S)
        finally:
            agent.terminate()
            agent.wait()
            broker.terminate()
            broker.wait()
        if agent.returncode != 0:
            sys.exit((folder / "log").read_text())
    show("largest", largest)
    show("at the end", now)


if __name__ == "__main__":
    main()
