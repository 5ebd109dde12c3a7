"""What inference has found of a camera's drift, for the ledger process to tell: a small file."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.log import logger
from ssn_contract.drift import DriftStatus

_NOTE = TypeAdapter(list[DriftStatus])


def write_drift(path: Path, found: list[DriftStatus]) -> None:
    """Write it, whole or not at all; a folder that cannot be written costs the note alone."""
    try:
        write_atomically(path, _NOTE.dump_json(found), synced=False)
    except OSError as error:
        logger().error("drift is not noted", problem=str(error))


def read_drift(path: Path) -> list[DriftStatus] | None:
    """Return what was noted; None: nothing is watched, or the note is of another version."""
    try:
        return _NOTE.validate_json(path.read_bytes()) or None
    except (OSError, ValidationError):
        return None


def drift_alarm(status: DriftStatus) -> str | None:
    """Say in words that a figure drifts; None: it does not."""
    if status.since is None or status.median is None:
        return None
    low, high = (None if v is None else f"{v:.3g}" for v in (status.low, status.high))
    good = f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}"
    of = f" of {status.product}" if status.product else ""
    found = f"median {status.median:.3g} of the last {status.parts} parts"
    return f"{status.statistic}{of} drifts: {found}, good is {good} (docs/drift.md)"
