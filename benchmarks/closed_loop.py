"""The loop from label to better model on real images: figures and minutes, label by label count.

    PYTHONPATH=tests python benchmarks/closed_loop.py DATA --weights FILE --out FOLDER

DATA: a folder with `good/`, one folder for each kind of defect, and `groups.csv` (image,group), as
magnetic tile has it. A part of the groups is held out. The station begins with a model of a few
images of the others; their rest comes as parts over ZeroMQ, is labelled over the HTTP API by what
its folder says, exported, fitted, published, shadowed and swapped to: once for each label count.
All of it by the commands that people use; mosquitto and Python's file server on this machine.
Each model is judged on the held-out parts, beside the first one. Writes FOLDER/closed-loop.json.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from support.agent import station
from support.channels import Plant, static_files
from support.http_api import write_token
from support.loop import Loop, Part, Sent, fit, trainer
from support.mosquitto import answers, free_port, running_mosquitto
from support.waiting import wait_until

COUNTS = (25, 50, 100, 200, 400)
FIRST_GOOD, FIRST_BAD = 10, 5
HELD_OUT = 0.35
COLUMNS = "image,part_id,product,camera,epoch,sequence,triggered_at,score,verdict,model,label"
COLUMNS += ",defect_type,labeller,labelled_at,disagreement"


@dataclass(frozen=True)
class Image:
    """A picture of the data, and the part that it shows."""

    path: Path
    group: str
    bad: bool

    def part(self) -> Part:
        """Return it as it is sent: all photographs of a part under that part's id."""
        picture = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            sys.exit(f"{self.path}: cannot be read")
        return Part(f"part-{self.group}", picture.astype(np.uint8), self.bad)


def read(data: Path) -> list[Image]:
    """Return the images of the folder, with their groups."""
    with (data / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Image(data / r["image"], r["group"], not r["image"].startswith("good/")) for r in rows]


def split(images: list[Image], seed: int) -> tuple[list[Image], list[Image]]:
    """Return the pool in the order in which it comes down the line, and what is held out.

    Parts with a defect and parts without are held out in the same share; no part is in both.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        groups[image.group].append(image)
    held: set[str] = set()
    for has_defect in (False, True):
        names = sorted(n for n, g in groups.items() if any(i.bad for i in g) == has_defect)
        rng.shuffle(names)
        held.update(names[: round(HELD_OUT * len(names))])
    pool = [image for image in images if image.group not in held]
    order = rng.permutation(len(pool))
    return [pool[i] for i in order], [image for image in images if image.group in held]


def write_layout(folder: Path, images: list[Image]) -> Path:
    """Write images as the ledger's export does: that layout names the part of each."""
    (folder / "images" / "left").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS.split(","))
        for number, image in enumerate(images, start=1):
            name = f"images/left/{number}.png"
            cv2.imwrite(str(folder / name), image.part().picture)
            label, when = "bad" if image.bad else "good", "2026-01-01T00:00:00Z"
            key = "left", "00000000-0000-0000-0000-000000000000", number
            judged = "", "", ""
            said = label, "", "truth", when, "false"
            table.writerow([name, image.part().id, "", *key, when, *judged, *said])
    return folder


def judged(bundle: Path, held: Path, first: Path) -> dict[str, Any]:
    """Return a bundle's figures on the held-out parts, beside those of the first one."""
    against = ["--against", first, "--format", "ledger", "--json"]
    found: dict[str, Any] = json.loads(trainer("eval", bundle, held, *against).splitlines()[-1])
    return {
        "i_auroc": found["i_auroc"],
        "interval": found["intervals"]["i_auroc"],
        "ap_det": found["ap_det"],
        "rise": found["against"]["rise"],
        "rise_interval": found["against"]["interval"],
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ssn-loop-") as folder:
        result = run(options, Path(folder))
    text = json.dumps(result, indent=1)
    (options.out / "closed-loop.json").write_text(text + "\n")
    print(text)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the loop once for each label count."""
    pool, held_out = split(read(options.data), options.seed)
    held = write_layout(folder / "held", held_out)
    first = [i for i in pool if not i.bad][:FIRST_GOOD] + [i for i in pool if i.bad][:FIRST_BAD]
    line = [image for image in pool if image not in first]
    how = ("--regime", "weak", "--weights", options.weights, "--format", "ledger")
    models = options.out / "models"
    began = time.monotonic()
    v1 = Path(fit(write_layout(folder / "first", first), models, "1", *how)["bundle"])
    rows = [
        {
            "labels": 0,
            "images": len(first),
            "fit_s": round(time.monotonic() - began, 1),
            **judged(v1, held, v1),
        }
    ]
    print(json.dumps(rows[-1]), flush=True)
    plant = Plant.made(folder / "plant")
    http_port, bind = free_port(), f"tcp://127.0.0.1:{free_port()}"
    (folder / "station").mkdir()
    with (
        running_mosquitto(folder) as broker,
        static_files(plant.folder) as url,
        station(
            folder / "station",
            broker.port,
            source={"kind": "zeromq", "bind": bind},
            bundle=str(v1),
            follow="parts",
            deadline_ms=20_000,
            keep={"pass_share": 1.0},
            fitness={"checks": [], "frozen_after": 0},  # photographs of many sizes
        ) as agent,
    ):
        token = write_token(folder)
        root = plant.metadata / "1.root.json"
        agent.top |= {
            "http": {"port": http_port, "token_file": str(token)},
            "channel": {"url": url, "root_file": str(root)},
            "updates": {"shadow_frames": 100, "probation_parts": 100},
        }
        agent.start()
        loop = Loop(agent, plant, http_port, bind)
        wait_until(lambda: answers(http_port), 60, "the API does not answer")
        sent: list[Sent] = []
        for version, labels in enumerate((*COUNTS, len(line)), start=2):
            if labels <= len(sent):
                continue
            new = loop.send((i.part() for i in line[len(sent) : labels]), pause_s=0.05)
            sent += new
            loop.label(new)
            row = once(loop, str(version), line, folder / f"export-{version}", models, how)
            bundle = models / f"parts-{version}.ssn"
            rows.append({"labels": labels, **row, **judged(bundle, held, v1)})
            print(json.dumps(rows[-1]), flush=True)
        loop.close()
        if agent.stop() != 0:
            sys.exit(agent.log())
    groups = {image.group for image in held_out}
    return {
        "pool": {"images": len(pool), "groups": len({i.group for i in pool})},
        "held_out": {
            "images": len(held_out),
            "bad": sum(i.bad for i in held_out),
            "groups": len(groups),
        },
        "rows": rows,
    }


def once(
    loop: Loop, version: str, line: list[Image], data: Path, models: Path, how: tuple[Any, ...]
) -> dict[str, Any]:
    """Export, fit, publish, and wait for what the station makes of it; return the times."""
    marks = [time.monotonic()]
    loop.export(data)
    marks.append(time.monotonic())
    fitted = fit(data, models, version, *how)
    marks.append(time.monotonic())
    loop.publish(Path(fitted["bundle"]))
    marks.append(time.monotonic())
    ended = ("kept", "refused", "rolled_back")
    step = loop.send_until(_again(line), version, *ended, limit_s=900)
    marks.append(time.monotonic())
    names = ("export_s", "fit_s", "publish_s", "shadow_to_end_s")
    spans = zip(names, marks[:-1], marks[1:], strict=True)
    times = {name: round(end - start, 1) for name, start, end in spans}
    return {"images": fitted.get("images"), **times, "step": step, "why": loop.why(version)}


def _again(line: list[Image]) -> Iterator[Part]:
    """The line goes on; nobody labels these."""
    return (image.part() for image in cycle(line))


if __name__ == "__main__":
    main()
