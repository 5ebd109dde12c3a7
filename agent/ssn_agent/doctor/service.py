"""The service, as systemd sees it."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning

UNIT = "ssn-agent.service"
BOOTED = Path("/run/systemd/system")
"""There where systemd is the machine's init (sd_booted(3))."""
MANY_RESTARTS = 3
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result")


def service(subject: Subject) -> Iterator[Finding]:
    """Is it there, does it run, does it start with the machine?"""
    if not BOOTED.is_dir():
        yield unknown("systemd does not run this machine")
        return
    command = ["systemctl", "show", UNIT, f"--property={','.join(_PROPERTIES)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield unknown(f"systemd does not answer: {error}")
        return
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    yield from judged(said, runs=subject.metrics is not None)


def judged(said: Mapping[str, str], *, runs: bool) -> Iterator[Finding]:
    """Judge the unit's properties; `runs`: an agent runs on this machine, of whatever parent."""
    state = f"{said.get('ActiveState')} ({said.get('SubState')})"
    log = f"journalctl -u {UNIT} -p warning -e"
    restarts = int(said.get("NRestarts") or 0)
    if said.get("LoadState") != "loaded":
        do = "install its unit (docs/operations.md, Install)"
        yield warning(f"{UNIT} is not installed: {said.get('LoadState')}", do)
    elif said.get("ActiveState") == "failed" or said.get("SubState") == "auto-restart":
        what = f"{UNIT}: {state}, {said.get('Result')}, started again {restarts} times"
        yield fault(what, log)
    elif said.get("ActiveState") != "active" and not runs:
        yield warning(f"{UNIT}: {state}", "systemctl start ssn-agent")
    elif restarts >= MANY_RESTARTS:
        yield warning(f"{UNIT}: {state}, started again {restarts} times", log)
    elif said.get("UnitFileState") not in {"enabled", "static", "enabled-runtime"}:
        what = f"{UNIT}: {state}, and does not start with the machine"
        yield warning(what, "systemctl enable ssn-agent")
    else:
        yield ok(f"{UNIT}: {state}, started again {restarts} times")
