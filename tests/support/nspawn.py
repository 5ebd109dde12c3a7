"""A machine of its own that systemd boots: an overlay over this one's files, in systemd-nspawn."""

import os
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support.mosquitto import program
from support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BOOTS_WITHIN_S = 60
ENDS_WITHIN_S = 60
LIVES_S = 400
"""Whatever becomes of the test, the machine does not outlive this."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""Of commands: ours may name folders with other sources."""
LEDGER = "var/lib/ssn-agent/ledger.sqlite"
PYTHON = f"/opt/ssn-agent/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
LAUNCHER = f"""#!/bin/sh
export LD_LIBRARY_PATH=/opt/ssn-agent/python/lib
export PYTHONPATH=/opt/ssn-agent/lib:/opt/ssn-agent/libraries
exec {PYTHON} -m ssn_agent.cli "$@"
"""
"""Instead of a virtual environment, which knows its own path: `/root` may be in it."""


@dataclass
class Machine:
    """A tree of files, and PID 1 on it once it has booted."""

    root: Path
    leader: int = 0

    def put(self, path: str, source: Path | str) -> Path:
        """Write a file from another, or from a text."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source if isinstance(source, str) else source.read_text("utf-8")
        target.write_text(text, "utf-8")
        return target

    def attempt(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside, whatever comes of it."""
        assert self.leader, "it is not booted"
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        return subprocess.run(
            [*enter, *command], check=False, capture_output=True, text=True, env=ENVIRONMENT
        )

    def run(self, *command: str) -> str:
        """Run a command inside, and return what it says."""
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def shows(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def query(self, sql: str) -> list[Any]:
        """Read the service's ledger with SQLite itself; it may not be there yet."""
        path = self.root / LEDGER
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def verdicts(self) -> int:
        """Return how many verdicts the ledger holds."""
        found = self.query("SELECT count(*) FROM verdicts")
        return int(found[0][0]) if found else 0

    def power_off(self) -> None:
        """Shut it down in order, as its switch would; it can be booted again."""
        self.attempt("systemctl", "poweroff")
        leader = self.leader
        wait_until(lambda: not psutil.pid_exists(leader), ENDS_WITHIN_S, "it does not end")
        self.leader = 0


@contextmanager
def files_of_a_machine(folder: Path) -> Iterator[Machine]:
    """Lay a tree over this machine's files: what is written to it is gone in the end."""
    upper, merged = folder / "upper", folder / "merged"
    for path in (upper, merged):
        path.mkdir()
    with ExitStack() as undo:
        _mount(undo, upper, "-t", "tmpfs", "tmpfs")
        for path in (upper / "files", upper / "work"):
            path.mkdir()
        layers = f"lowerdir=/,upperdir={upper / 'files'},workdir={upper / 'work'}"
        _mount(undo, merged, "-t", "overlay", "-o", layers, "overlay")
        # Nothing of this machine's own is started.
        for wants in ("multi-user.target.wants", "timers.target.wants"):
            for link in (merged / "etc/systemd/system" / wants).glob("*"):
                link.unlink()
        # A container's images forbid packages to start services; a machine does not.
        (merged / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        machine = Machine(merged)
        machine.put("/etc/machine-id", "")
        yield machine


def put_sources(machine: Machine) -> dict[str, str]:
    """Have `ssn-agent` be our sources; return what is bound for that, by where it is here."""
    machine.put("/opt/ssn-agent/bin/ssn-agent", LAUNCHER).chmod(0o755)
    return {
        sys.base_prefix: "/opt/ssn-agent/python",
        sysconfig.get_path("purelib"): "/opt/ssn-agent/libraries",
        str(REPOSITORY / "agent"): "/opt/ssn-agent/lib",
    }


@contextmanager
def booted(machine: Machine, log: Path, places: Mapping[str, str]) -> Iterator[None]:
    """Boot it, without a network; folders of this machine are bound to places of its."""
    for place in places.values():
        (machine.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    command = [program("timeout"), "-k", "1", str(LIVES_S), program("systemd-nspawn"), "-q"]
    command += ["-D", str(machine.root), "-b", "--register=no", "--keep-unit"]
    command += ["--private-network", f"--machine=ssn-{os.getpid()}", "--console=pipe"]
    command += [f"--bind-ro={here}:{there}" for here, there in places.items()]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_until(lambda: _find_leader(machine, process.pid), BOOTS_WITHIN_S, "it does not boot")
        yield
    except BaseException:
        if machine.leader:
            sys.stderr.write(machine.attempt("journalctl", "-o", "cat", "-n", "60").stdout)
        raise
    finally:
        if machine.leader:
            with suppress(ProcessLookupError):
                os.kill(machine.leader, 9)
            machine.leader = 0
        process.terminate()
        process.wait()


def _find_leader(machine: Machine, outermost: int) -> bool:
    """Take note of PID 1; say whether it is there and takes commands."""
    for child in psutil.Process(outermost).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # nspawn's helpers come and go meanwhile
            # The first one: PID 1's children have its name, too, until they are something else.
            if child.name() == "systemd":
                machine.leader = child.pid
                break
    if not machine.leader:
        return False
    return machine.attempt("systemctl", "show", "--value", "-p", "Version").returncode == 0


def _mount(undo: ExitStack, where: Path, *arguments: str) -> None:
    subprocess.run(["mount", *arguments, str(where)], check=True)
    undo.callback(subprocess.run, ["umount", "--lazy", str(where)], check=True)
