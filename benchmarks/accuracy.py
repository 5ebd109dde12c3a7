"""The figures of docs/results.md: each work by the trainer's own commands, one JSON file each.

    python benchmarks/accuracy.py DATA --out DIR [--only NAME ...]

DATA holds `magnetic_tile`, `ksdd` and `mvtec_screw` and the backbone's weights. A work whose file
is there already is not run again, so that a run which was cut off can be gone on with. The first
work of a data set computes its features, the others find them: `features_cached` says which. Those
with masks train their backbone, and compute their own.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ssn_agent.atomic import write_atomically

WEIGHTS = "resnet18.tv_in1k.l3.safetensors"
TILE = ("magnetic_tile", "--image-size", "256", "--count", "5")
KSDD = ("ksdd", "--image-size", "1536x624", "--folds", "ksdd/folds.json")
SCREW = ("mvtec_screw", "--image-size", "640", "--regime", "unsupervised")


@dataclass(frozen=True)
class Work:
    """One line of the tables: `crossval`, or else `fit` and then `eval`."""

    data: str
    options: tuple[str, ...]
    crossval: bool = True


def _tile(*options: str) -> Work:
    return Work(TILE[0], (*TILE[1:], *options))


def _ksdd(*options: str) -> Work:
    return Work(KSDD[0], (*KSDD[1:], *options))


def _screw(*options: str) -> Work:
    return Work(SCREW[0], (*SCREW[1:], *options), crossval=False)


WORKS = {
    "tile-unsupervised": _tile("--regime", "unsupervised"),
    "tile-weak": _tile("--regime", "weak"),
    # One defect of the set has a blank mask, and counts as bad without a mask.
    "tile-full": _tile("--regime", "mixed"),
    "tile-published-head": _tile("--regime", "weak", "--head", "supersimplenet"),
    "tile-gap-cam": _tile("--regime", "weak", "--head", "gap-cam"),
    "screw-0": _screw("--seed", "0"),
    "screw-1": _screw("--seed", "1"),
    "screw-2": _screw("--seed", "2"),
    "screw-learned-noise": _screw("--seed", "0", "--noise", "learned"),
    "screw-nonlinear": _screw("--seed", "0", "--adaptor", "nonlinear"),
    "screw-published-head": _screw("--seed", "0", "--head", "supersimplenet"),
    "ksdd-full": _ksdd("--regime", "full"),
    "ksdd-weak": _ksdd("--regime", "weak"),
    "ksdd-mixed": _ksdd("--regime", "mixed", "--masks", "5"),
    "ksdd-weak-small": _ksdd("--regime", "weak", "--image-size", "512x208"),
    "ksdd-published-head": _ksdd(
        *("--regime", "weak", "--head", "supersimplenet", "--image-size", "512x208")
    ),
    "ksdd-gap-cam": _ksdd("--regime", "weak", "--head", "gap-cam"),
}


def run(name: str, work: Work, data: Path, out: Path) -> dict[str, object]:
    """Run a work and return its answer; the features of a data set serve all its works."""
    cached = (out / work.data / "features").exists()
    options = [str(data / o) if o.endswith(".json") else o for o in work.options]
    common = ["--out", str(out / work.data), "--weights", str(data / WEIGHTS), "--name", name]
    command = "crossval" if work.crossval else "fit"
    answer = _trainer(command, str(data / work.data), *common, *options)
    if not work.crossval:
        judged = _trainer("eval", str(answer["bundle"]), str(data / work.data))
        answer = {**answer, **judged, "fit_seconds": answer["seconds"]}
    return {**answer, "features_cached": cached}


def _trainer(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "ssn_trainer.cli", *arguments, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description="The figures of docs/results.md.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        file = options.out / f"{name}.json"
        if not file.exists():
            answer = run(name, WORKS[name], options.data, options.out)
            write_atomically(file, json.dumps(answer, indent=1).encode())
        figures = json.loads(file.read_text())
        shown = {k: figures[k] for k in ("i_auroc", "ap_det", "p_auroc", "ap_loc", "seconds")}
        print(name, shown, flush=True)


if __name__ == "__main__":
    main()
