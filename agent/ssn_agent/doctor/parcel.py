"""One file to send to who helps: what was found, and what it was found from.

No key, token, password or image is in it: settings are written without their secrets, what else
holds one by chance has it blotted out, and no picture is read.
"""

import json
import os
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssn_agent import __version__
from ssn_agent.atomic import atomic_path
from ssn_agent.bundles.archive import Bundle
from ssn_agent.doctor.files import secrets
from ssn_agent.doctor.findings import Finding, Subject
from ssn_agent.doctor.models import judging
from ssn_agent.doctor.service import UNIT
from ssn_agent.doctor.software import installed
from ssn_agent.errors import BundleError, UsageError
from ssn_agent.settings import Settings

if TYPE_CHECKING:
    from ssn_agent.ledger.reader import CameraStats

MODE = 0o600
MAX_PART_BYTES = 2**21
"""Of a file in it, the end of which is kept: a log's newest lines."""
LOG_LINES = 5000
MODEL_EVENTS = 200
COMMAND_S = 10.0
SHORTEST_SECRET = 4
"""A shorter one is blotted out nowhere: it would be all over the place by chance."""
_BLOT = b"[blotted out]"
_HARDWARE = (
    ("ip", "-brief", "address"),
    ("lsblk", "--output", "NAME,SIZE,TYPE,FSTYPE,MOUNTPOINTS,ROTA,MODEL"),
    ("df", "-h"),
    ("df", "-i"),
    ("free", "-m"),
    ("lsusb",),
    ("lspci",),
    ("nvidia-smi",),
    ("timedatectl",),
    ("systemctl", "status", "--no-pager", "--lines=0", UNIT),
)


def file_name(station: str, now: datetime) -> str:
    """Return what the file is called where nobody names it."""
    return f"ssn-doctor-{station.replace('/', '-')}-{now:%Y%m%dT%H%M%SZ}.tar.gz"


def check_place(out: Path) -> None:
    """Raise UsageError where the file cannot be written, before any work is done."""
    if out.exists():
        raise UsageError(f"{out}: is there already; name another file with --out")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{out.parent}: is not there, or not ours to write to; name another --out")


def write_parcel(out: Path, config: Path, found: Sequence[Finding], subject: Subject | None) -> int:
    """Write it, whole or not at all; return its bytes. Raises UsageError."""
    parts = _parts(config, found, subject)
    hidden = [] if subject is None else _hidden(subject)
    try:
        with atomic_path(out, MODE) as path, tarfile.open(path, "w:gz") as archive:
            for name, make in parts.items():
                data = _blotted(_made(make), hidden)[-MAX_PART_BYTES:]
                info = tarfile.TarInfo(f"{out.name.removesuffix('.tar.gz')}/{name}")
                info.size, info.mode, info.mtime = len(data), MODE, int(time.time())
                archive.addfile(info, BytesIO(data))
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); name a file on a disk with room"
        raise UsageError(msg) from error
    return out.stat().st_size


def _parts(
    config: Path, found: Sequence[Finding], subject: Subject | None
) -> dict[str, Callable[[], object]]:
    """Return what makes each file in it."""
    parts: dict[str, Callable[[], object]] = {
        "findings.json": lambda: [asdict(one) for one in found],
        "versions.json": lambda: _versions(config),
        "hardware.txt": _hardware,
        "log.txt": _log,
    }
    if subject is None:
        return parts
    settings = subject.settings
    parts["settings.json"] = lambda: settings.public_json(indent=1)
    parts["ledger.json"] = lambda: _counts(settings.ledger_path)
    parts["steps.json"] = lambda: _steps(settings.ledger_path)
    parts["models.json"] = lambda: _text(settings.models_file)
    if (metrics := subject.metrics) is not None:
        parts["metrics.json"] = lambda: metrics.model_dump_json(indent=1)
    parts["bundles.json"] = lambda: _manifests(settings)
    return parts


def _made(make: Callable[[], object]) -> bytes:
    """Return a part; where it cannot be made, why."""
    try:
        value = make()
        text = value if isinstance(value, str) else json.dumps(value, indent=1, default=str)
    except Exception as error:  # noqa: BLE001 -- one part must not cost the others
        text = f"not to be had: {type(error).__name__}: {error}\n"
    return text.encode(errors="replace")


def _versions(config: Path) -> Mapping[str, Any]:
    return {
        "at": datetime.now(timezone.utc).isoformat(),
        "agent": __version__,
        "python": platform.python_version(),
        "system": " ".join(platform.uname()),
        "os": _os_name(),
        "settings_file": str(config),
        "packages": installed(),
    }


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # a system without that file
        return ""


def _counts(path: Path) -> Mapping[str, Any]:
    """Counts and latencies, where they are to be had soon: a ledger may hold millions of parts."""
    from ssn_agent.ledger.database import open_database
    from ssn_agent.ledger.reader import stats

    engine = open_database(path, read_only=True, limit_s=COMMAND_S)
    return {"cameras": [_stats(one) for one in stats(engine)]}


def _steps(path: Path) -> Sequence[Mapping[str, Any]]:
    from ssn_agent.ledger.model_query import history
    from ssn_agent.ledger.reader import open_ledger

    return [one.model_dump(mode="json") for one in history(open_ledger(path), MODEL_EVENTS)]


def _stats(camera: "CameraStats") -> Mapping[str, Any]:
    return {
        "camera": camera.camera,
        "triggers": camera.triggers,
        "passed": camera.counts.passed,
        "failed": camera.counts.failed,
        "invalid": camera.counts.invalid,
        "latency_median_ms": camera.latency_median_ms,
        "latency_p99_ms": camera.latency_p99_ms,
        "undelivered": camera.undelivered,
    }


def _manifests(settings: Settings) -> Mapping[str, Any]:
    return {str(path): _manifest(path) for path in judging(settings) if path is not None}


def _manifest(path: Path) -> object:
    try:
        return Bundle.open(path).manifest.model_dump(mode="json")
    except BundleError as error:
        return f"not to be had: {error}"


def _hardware() -> str:
    said = [_text(Path("/proc/cpuinfo")), _text(Path("/proc/meminfo")), _text(Path("/proc/mounts"))]
    said += [f"$ {' '.join(command)}\n{_output(command)}" for command in _HARDWARE]
    return "\n".join(said)


def _log() -> str:
    command = ("journalctl", "-u", UNIT, "-n", str(LOG_LINES), "--no-pager", "-o", "short-iso")
    return _output(command)


def _output(command: Sequence[str]) -> str:
    """Return what a command says; where it is not there or hangs, that."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return "not installed\n"
    except (OSError, subprocess.SubprocessError) as error:
        return f"not to be had: {error}\n"
    return (done.stdout + done.stderr)[-MAX_PART_BYTES:].decode(errors="replace")


def _text(path: Path) -> str:
    return (
        path.read_text("utf-8", "replace")[:MAX_PART_BYTES] if path.exists() else "is not there\n"
    )


def _hidden(subject: Subject) -> list[bytes]:
    held = secrets(subject)
    token = subject.settings.http.token_file
    with suppress(OSError):  # of one that cannot be read nobody here has written anything down
        held += [token.read_text("utf-8", "replace").strip()] if token is not None else []
    long = [secret for secret in held if len(secret) >= SHORTEST_SECRET]
    return [form.encode() for secret in long for form in (secret, json.dumps(secret)[1:-1])]


def _blotted(data: bytes, hidden: Sequence[bytes]) -> bytes:
    for secret in hidden:
        data = data.replace(secret, _BLOT)
    return data
