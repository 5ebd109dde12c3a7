"""Which engine is the fastest for a bundle on this box, remembered over restarts."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ssn_agent import __version__
from ssn_agent.atomic import write_atomically
from ssn_agent.inference.engines.cores import physical_cores, processor
from ssn_agent.inference.settings import EngineName
from ssn_agent.inference.trial import Trial
from ssn_agent.log import logger

_TRIALS = TypeAdapter(list[Trial])
_KEPT = 4
"""So many folders that are not in use are kept, so that going back to a bundle tries nothing."""


def ranking(trials: Sequence[Trial]) -> list[EngineName]:
    """Return the engines that may judge, the fastest first."""
    timed = [(trial.median_ms, trial.engine) for trial in trials if trial.median_ms is not None]
    return [engine for _, engine in sorted(timed)]


def circumstances(digest: str, engines: Mapping[EngineName, str], threads: int) -> str:
    """Return a name for what trials depend on: where any of it differs, they are run anew.

    digest: of the bundle; engines: those to be tried, with the versions of what they run on.
    """
    cpu = processor()
    kept = {
        "agent": __version__,
        "bundle": digest,
        "engines": dict(engines),
        "threads": threads or physical_cores(),
        "cpu": [cpu.get("model name"), cpu.get("flags")],
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class Findings:
    """What was found out and built under one set of circumstances: trials, TensorRT's engines."""

    def __init__(self, folder: Path) -> None:
        """Take a folder of its own, which is made when there is something to keep."""
        self.folder = folder
        self._trials = folder / "trials.json"

    def recall(self) -> list[Trial] | None:
        """Return the trials under these circumstances, or None where there were none."""
        try:
            return _TRIALS.validate_json(self._trials.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger().warning("trials are run anew", file=str(self._trials), problem=str(error))
            return None

    def keep(self, trials: Sequence[Trial]) -> None:
        """Write trials down, for the next start to recall, if each of them came to an end.

        One that was killed or took too long says nothing of its engine: the next start tries again,
        as it does where the file cannot be written.
        """
        if any(trial.is_cut_off for trial in trials):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._trials, _TRIALS.dump_json(list(trials), indent=1))
        except OSError as error:
            logger().warning("trials are not kept", file=str(self._trials), problem=error.strerror)


def tidy(root: Path, in_use: Collection[Path]) -> None:
    """Remove what other bundles, runtimes and drivers left in `root`, but for the last few."""
    try:
        for folder in in_use:
            if folder.exists():
                os.utime(folder)  # used last now, not when it was written
        others = [path for path in root.iterdir() if path not in in_use]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[_KEPT:]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileNotFoundError:  # nothing was ever kept
        return
    except OSError as error:
        logger().warning("old engines stay", folder=str(root), problem=str(error))
