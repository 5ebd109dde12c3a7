"""Which engine is the fastest for a bundle on this box, remembered over restarts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.inference.engines.cores import physical_cores, processor
from ssn_agent.inference.settings import EngineName
from ssn_agent.inference.trial import Trial
from ssn_agent.log import logger

_TRIALS = TypeAdapter(list[Trial])


def ranking(trials: Sequence[Trial]) -> list[EngineName]:
    """Return the engines that may judge, the fastest first."""
    timed = [(trial.median_ms, trial.engine) for trial in trials if trial.median_ms is not None]
    return [engine for _, engine in sorted(timed)]


def circumstances(digest: str, engines: Mapping[EngineName, str], threads: int) -> str:
    """Return a name for what trials depend on: where any of it differs, they are run anew.

    digest: of the bundle; engines: those to be tried, with the versions of their runtimes.
    """
    cpu = processor()
    kept = {
        "bundle": digest,
        "engines": dict(engines),
        "threads": threads or physical_cores(),
        "cpu": [cpu.get("model name"), cpu.get("flags")],
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class TrialRecords:
    """Trials on the disk, a file for each set of circumstances."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, which is made when the first trials are kept."""
        self._folder = folder

    def recall(self, name: str) -> list[Trial] | None:
        """Return the trials under these circumstances, or None where there were none."""
        path = self._folder / f"{name}.json"
        try:
            return _TRIALS.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger().warning("trials are run anew", file=str(path), problem=str(error))
            return None

    def keep(self, name: str, trials: Sequence[Trial]) -> None:
        """Write trials down; where that fails, the next start runs them again."""
        path = self._folder / f"{name}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _TRIALS.dump_json(list(trials), indent=1))
        except OSError as error:
            logger().warning("trials are not kept", file=str(path), problem=error.strerror)
