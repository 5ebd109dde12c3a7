"""The units as systemd takes them: checked, and booted on a machine of their own."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.nspawn import Machine, booted, files_of_a_machine, put_sources
from support.waiting import wait_until

UNITS = Path(__file__).resolve().parents[2] / "systemd"
UNIT = "ssn-agent.service"
SETTINGS = """
[cameras.top]
threshold = 0.5
[cameras.top.source]
kind = "line"
fps = 10
"""


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_exposed_to_little(tmp_path: Path) -> None:
    unit = shutil.copy(UNITS / UNIT, tmp_path)
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", unit]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.needs("systemd-analyze")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    text = (UNITS / UNIT).read_text("utf-8")
    assert verify(tmp_path, text) == ""
    assert "Unknown key" in verify(tmp_path, text.replace("WatchdogSec", "WatchDogSec"))


def verify(folder: Path, unit: str) -> str:
    """Return what systemd finds wrong with a unit, wherever its program is installed."""
    path = folder / UNIT
    path.write_text(unit.replace("/opt/ssn-agent/bin/ssn-agent", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr


def install(machine: Machine) -> None:
    """Do as docs/operations.md says, on a machine that does not run yet."""
    for name in ("sysusers.d/ssn-agent.conf", "tmpfiles.d/ssn-agent.conf"):
        machine.put(f"/usr/lib/{name}", UNITS / name)
    machine.put(f"/etc/systemd/system/{UNIT}", UNITS / UNIT)
    # So that the test need not wait as long as a station may.
    machine.put(f"/etc/systemd/system/{UNIT}.d/test.conf", "[Service]\nWatchdogSec=3\n")
    root = f"--root={machine.root}"
    subprocess.run(["systemd-sysusers", root], check=True, capture_output=True)
    machine.put("/etc/ssn-agent/agent.toml", SETTINGS)
    machine.put("/etc/ssn-agent/ssn-agent.env", UNITS / "ssn-agent.env")
    subprocess.run(["systemctl", root, "enable", UNIT, "mosquitto"], check=True)


def assert_the_journal_knows_process_and_priority_of_each_line(machine: Machine) -> None:
    fields = "--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT"
    text = machine.run("journalctl", "-u", UNIT, "-o", "json", fields)
    entries = [json.loads(line) for line in text.splitlines()]
    ours = [entry for entry in entries if entry.get("_SYSTEMD_UNIT") == UNIT]
    lines = [(json.loads(entry["MESSAGE"]), entry["PRIORITY"]) for entry in ours]
    processes = {line["process"] for line, _ in lines}
    assert {"supervisor", "ledger", "inference"} <= processes
    numbers = {"info": "6", "warning": "4", "error": "3"}
    assert all(numbers[line["level"]] == priority for line, priority in lines)
    assert {"6", "3"} <= {priority for _, priority in lines}  # no bundle: an error


def status(machine: Machine, user: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code of `ssn-agent status` and what it says."""
    asked = shlex.join(["/opt/ssn-agent/bin/ssn-agent", "status", *arguments])
    text = machine.run("runuser", "-u", user, "--", "sh", "-c", f"{asked} 2>&1; echo $?")
    said, _, code = text.rpartition("\n")
    return int(code), said


def counts_without_a_bundle(machine: Machine, user: str) -> bool:
    """Say whether `ssn-agent status` tells of parts that nothing could judge."""
    code, said = status(machine, user, "--json")
    assert code == 1  # no bundle: an alarm
    return any(camera["invalid"]["no_model"] for camera in json.loads(said)["cameras"])


@pytest.mark.timeout(240)
@pytest.mark.needs("systemd-nspawn", "mosquitto")
def test_the_service_starts_reloads_outlives_a_hang_of_its_main_process_and_leaves_its_ledger(
    tmp_path: Path,
) -> None:
    with files_of_a_machine(tmp_path) as machine:
        install(machine)
        with booted(machine, tmp_path / "boot.log", put_sources(machine)):
            run = machine.run

            def is_active() -> bool:
                return machine.shows(UNIT, "ActiveState") == "active"

            wait_until(is_active, 100, "the service does not become ready")
            assert run("stat", "-c", "%a %U", "/etc/ssn-agent/agent.toml") == "640 root"
            wait_until(lambda: machine.verdicts() >= 5, 30, "no verdicts")

            for user in ("root", "ssn-agent"):
                wait_until(lambda u=user: counts_without_a_bundle(machine, u), 30, "no counts")  # type: ignore[misc]  # a default binds the loop's value
            code, said = status(machine, "nobody")
            assert (code, said.count("\n")) == (2, 0)
            assert "/etc/ssn-agent/agent.toml: cannot be read by this user" in said
            code, said = status(machine, "nobody", "--runtime-dir", "/run/ssn-agent")
            assert (code, said.count("\n")) == (4, 0)
            assert_the_journal_knows_process_and_priority_of_each_line(machine)

            machine.put("/etc/ssn-agent/agent.toml", SETTINGS.replace("0.5", "0.625"))
            run("systemctl", "reload", UNIT)
            changes = "SELECT who FROM settings_changes ORDER BY id"
            wait_until(lambda: len(machine.query(changes)) == 2, 20, "no change is noted")
            assert machine.query(changes) == [("start",), ("SIGHUP from ssn-agent",)]

            run("kill", "-STOP", machine.shows(UNIT, "MainPID"))
            wait_until(lambda: machine.shows(UNIT, "NRestarts") == "1", 30, "no watchdog")
            wait_until(is_active, 60, "the service does not become ready again")
            assert "Watchdog timeout" in run("journalctl", "-o", "cat", "-u", UNIT)
            before = machine.verdicts()
            wait_until(lambda: machine.verdicts() >= before + 5, 30, "no verdicts after it")

            # Removal.
            run("systemctl", "disable", "--now", UNIT)
            assert machine.shows(UNIT, "Result") == "success"
            run("rm", f"/etc/systemd/system/{UNIT}")
            run("systemctl", "daemon-reload")
            numbers = machine.query("SELECT sequence FROM triggers JOIN verdicts ON id=trigger_id")
            assert [number for (number,) in numbers] == list(range(1, len(numbers) + 1))
            assert len(machine.query("SELECT * FROM streams")) == 1
