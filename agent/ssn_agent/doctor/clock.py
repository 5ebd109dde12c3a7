"""The machine's clock: verdicts are dated by it, and certificates are judged by it."""

import ctypes
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import ssn_agent
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning

TIME_ERROR = 5
"""adjtimex(2): nobody keeps the clock."""
_TIMEX_BYTES = 512
"""More than struct timex has on any machine; all zero it only asks."""
TOLERANCE_S = 300.0


def clock(subject: Subject) -> Iterator[Finding]:
    """Is it synchronised, and is its date possible?"""
    at = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    newer = [path for path in _dated(subject) if path.stat().st_mtime > time.time() + TOLERANCE_S]
    if newer:
        wrote = datetime.fromtimestamp(newer[0].stat().st_mtime, timezone.utc)
        what = f"it is {at}, and {newer[0]} was written on {wrote:%Y-%m-%d %H:%M:%S}"
        yield fault(f"{what}: the clock is behind", "set it: timedatectl set-ntp true")
    elif (state := _kernel_says()) is None:
        yield unknown(f"it is {at}; whether it is synchronised cannot be asked here")
    elif state == TIME_ERROR:
        do = "timedatectl set-ntp true, or name a time server to systemd-timesyncd or chrony"
        yield warning(f"it is {at}, and nothing synchronises it", do)
    else:
        yield ok(f"it is {at}, synchronised")


def _dated(subject: Subject) -> Iterator[Path]:
    """Yield files that were written before now, if the clock is right."""
    settings = subject.settings
    for path in (Path(ssn_agent.__file__), subject.config, settings.ledger_path):
        if path.exists():
            yield path


def _kernel_says() -> int | None:
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else int(state)
