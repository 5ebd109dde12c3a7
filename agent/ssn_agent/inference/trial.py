"""One engine, tried on one bundle beside serving: `python -m ssn_agent.inference.trial ...`.

A process of its own: what a runtime takes of the memory goes with it, and what kills it kills no
verdict. It replays the bundle's vectors, takes the time of single frames, prints a `Trial` as its
last line, and ends.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError, EngineError
from ssn_agent.frames.pixels import decode_image, to_network_input
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName
from ssn_agent.log import configure
from ssn_agent.processes import end_with_parent

TIMEOUT_S = 900.0
"""TensorRT builds for minutes on a small box."""
_NICE = 19
_WARM_UP = 5
_RUNS = 30
_RUNS_S = 10.0
"""Enough runs or enough time, whichever comes first."""
_PAUSE = 3.0
"""A run is followed by a pause of so many times its length: beside the processor's time, which the
priority guards, serving needs its caches and memory."""


class Trial(BaseModel):
    """How an engine did on a bundle: its time, or why it may not judge."""

    model_config = ConfigDict(frozen=True)

    engine: EngineName
    median_ms: float | None = None
    """Of one frame of the network's size to raw score and map, wall time."""
    problem: str | None = None
    is_cut_off: bool = False
    """The trial did not come to its end, for whatever reason: another may go otherwise."""


class TrialProcess:
    """A trial under way."""

    def __init__(self, bundle: Bundle, engine: EngineName, threads: int, cache: Path) -> None:
        """Start it, with the lowest claim on the processor. Raises EngineError."""
        self._engine = engine
        self._ends_at = time.monotonic() + TIMEOUT_S
        arguments = [str(bundle.path), bundle.digest, engine, str(threads), str(cache)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments, str(os.getpid())],
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the supervisor's to act on
            )
        except OSError as error:
            msg = f"its trial cannot be started ({error.strerror})"
            raise EngineError(msg) from error
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)

    def poll(self) -> Trial | None:
        """Return how it went, or None while it runs."""
        if self._process.poll() is None:
            if time.monotonic() < self._ends_at:
                return None
            self.kill()
            return self._cut_off(f"its trial took over {TIMEOUT_S:.0f} s")
        output, _ = self._process.communicate()
        try:
            return Trial.model_validate_json(output.splitlines()[-1])
        except (IndexError, ValidationError):
            code = self._process.returncode
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
            return self._cut_off(f"its trial died with {died} (see the log)")

    def kill(self) -> None:
        """End it: nobody waits for what it finds."""
        self._process.kill()
        self._process.communicate()

    def _cut_off(self, problem: str) -> Trial:
        return Trial(engine=self._engine, problem=problem, is_cut_off=True)


def run_trial(path: Path, digest: str, engine: EngineName, threads: int, cache: Path) -> Trial:
    """Load, replay, take the time."""
    try:
        bundle = Bundle.open(path)
        if bundle.digest != digest:
            msg = f"{path}: is no longer the bundle that judges; it is tried when it does"
            raise EngineError(msg)
        scorer = Scorer(bundle, threads, engine=engine, cache=cache)
        scorer.check_vectors()
        return Trial(engine=engine, median_ms=_median_ms(scorer))
    except AgentError as error:
        return Trial(engine=engine, problem=str(error))


def _median_ms(scorer: Scorer) -> float:
    vector = scorer.bundle.manifest.vectors[0].image
    image = decode_image(scorer.bundle.read(vector), vector)
    frame = to_network_input(image, scorer.input.height, scorer.input.width)[np.newaxis]
    for _ in range(_WARM_UP):
        scorer.score_inputs(frame)
    times: list[float] = []
    ends_at = time.perf_counter() + _RUNS_S
    while len(times) < _RUNS and (not times or time.perf_counter() < ends_at):
        start = time.perf_counter()
        scorer.score_inputs(frame)
        took_s = time.perf_counter() - start
        times.append(1000 * took_s)
        time.sleep(_PAUSE * took_s)
    return statistics.median(times)


def main(path: str, digest: str, engine: str, threads: str, cache: str, parent: str) -> None:
    """Print a `Trial`."""
    end_with_parent(int(parent))
    configure("info", "trial")
    trial = run_trial(Path(path), digest, cast("EngineName", engine), int(threads), Path(cache))
    sys.stdout.write(trial.model_dump_json() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
