"""How the station does, put together from what its processes have noted in the runtime directory.

The ledger process reports what it alone knows. What the supervisor knows, and what the kernel says,
is added by whoever reads: so there is an answer also while the ledger process is away.
"""

import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ssn_agent import __version__
from ssn_agent.atomic import write_atomically
from ssn_agent.errors import MAX_PROBLEM
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import logger
from ssn_agent.settings import Settings
from ssn_agent.supervisor.child import own_memory_bytes
from ssn_agent.supervisor.note import SupervisorNote, read_note
from ssn_contract.messages import ProcessStatus
from ssn_contract.metrics import ProcessMetrics, StationMetrics

_SUPERVISOR = ProcessStatus(name="supervisor", state="running", died=0, hung=0, over_memory=0)
STALE_S = 10.0
"""A ledger process that has reported nothing for so long is at fault: it reports every 2 s."""


class LedgerReport(BaseModel):
    """What the ledger process says: `processes`, `settings` and the disk are left out."""

    model_config = ConfigDict(frozen=True)

    at_s: float
    """When, by the monotonic clock."""
    metrics: StationMetrics


def write_report(path: Path, metrics: StationMetrics) -> None:
    """Write it, whole or not at all; a folder that cannot be written costs the report alone.

    Then there is none: an old one would say that the ledger process is silent.
    """
    report = LedgerReport(at_s=time.monotonic(), metrics=metrics)
    try:
        write_atomically(path, report.model_dump_json().encode(), synced=False)
    except OSError as error:
        logger().error("the figures are not written", problem=str(error))
        path.unlink(missing_ok=True)


def station_metrics(files: RuntimeFiles, settings: Settings) -> StationMetrics:
    """Return how the station does at this moment."""
    try:
        report = LedgerReport.model_validate_json(files.figures.read_bytes())
    except (OSError, ValidationError):  # none yet, or one of another version
        report = None
    note = read_note(files.supervisor)
    if report is None:
        return _completed(_unknown(settings), settings, note, ["ledger: has not reported yet"])
    age_s = max(0.0, time.monotonic() - report.at_s)
    metrics = report.metrics.model_copy(update={"report_age_s": round(age_s, 3)})
    if age_s <= STALE_S:
        return _completed(metrics, settings, note, [])
    silent = metrics.model_copy(update={"ledger": "faulty", "broker_connected": False})
    return _completed(silent, settings, note, [f"ledger: has not reported for {age_s:.0f} s"])


def _completed(
    metrics: StationMetrics, settings: Settings, note: SupervisorNote, alarms: list[str]
) -> StationMetrics:
    free, size = _disk(settings.data_dir)
    return metrics.model_copy(
        update={
            "alarms": [a[:MAX_PROBLEM] for a in (*alarms, *metrics.alarms, *note.alarms)],
            "processes": [_process(p, note.pids) for p in (_SUPERVISOR, *note.processes)],
            "settings": note.settings,
            "disk_free_bytes": free,
            "disk_size_bytes": size,
        }
    )


def _process(process: ProcessStatus, pids: dict[str, int]) -> ProcessMetrics:
    pid = pids.get(process.name)
    memory = None if pid is None else own_memory_bytes(pid)
    return ProcessMetrics(**dict(process), memory_bytes=memory or None)


def _disk(folder: Path) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None, None
    return usage.free, usage.total


def _unknown(settings: Settings) -> StationMetrics:
    """Return what can be said where the ledger process has said nothing."""
    return StationMetrics(
        station=str(settings.station),
        state="online",
        at=datetime.now(timezone.utc),
        agent=__version__,
        ledger=None,
        undelivered=None,
        alarms=[],
        cameras=[],
        processes=[],
        report_age_s=None,
        broker_connected=None,
        broker_certificates=None,
        published=None,
        undeliverable=None,
        commit=None,
        delivery=None,
        disk_free_bytes=None,
        disk_size_bytes=None,
    )
