"""The service's main process: one agent a folder, and its children end with it."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssn_agent.errors import UsageError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import Settings
from ssn_agent.supervisor.supervisor import Supervisor
from support.ledgers import settings_in

START = """
import sys, time
from ssn_agent.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
print("lives", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        yield settings_in(tmp_path, runtime_dir=Path(runtime))


def never() -> Settings:
    """Stand for a settings file that nobody asks for again."""
    raise AssertionError


def test_a_second_agent_in_the_same_folder_is_refused_and_the_lock_goes_with_its_process(
    settings: Settings,
) -> None:
    first = Supervisor(settings, never)
    with pytest.raises(UsageError, match="runs here already"):
        Supervisor(settings, never)
    os.close(first._lock)
    second = Supervisor(settings, never)
    os.close(second._lock)


def test_a_second_agent_ends_with_exit_code_2_and_one_line(
    settings: Settings, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f"data_dir = '{settings.data_dir}'\nruntime_dir = '{settings.runtime_dir}'\n"
        "[cameras.left.source]\nkind = 'folder'\npath = '/images'\n"
    )
    files = RuntimeFiles(settings.runtime_dir)
    with files.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "ssn_agent.cli", "run", "-c", str(config)],
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ssn-agent: {settings.runtime_dir}: an agent runs here already; stop")
    assert not settings.data_dir.exists()


def test_a_runtime_folder_that_cannot_be_made_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used as runtime_dir"):
        Supervisor(settings_in(tmp_path, runtime_dir=tmp_path / "file" / "run"), never)


def test_a_child_whose_supervisor_is_killed_dies_with_it() -> None:
    # A shell stands for the supervisor: it starts the child, and is killed.
    script = 'python="$1"; "$python" -c "$2" $$ & wait'
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", sys.executable, START],
        stdout=subprocess.PIPE,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == b"lives\n"
    shell.kill()
    shell.wait()
    assert shell.stdout.read() == b""  # its end comes when the child has closed it too


def test_a_crash_leaves_a_traceback_and_no_core_dump_also_of_what_is_started_from_here() -> None:
    child = "import faulthandler, os; print(faulthandler.is_enabled(), flush=True); os.abort()"
    script = (
        "import resource, subprocess, sys\n"
        "from ssn_agent.processes import set_crash_rules\n"
        "set_crash_rules()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
        f"{child}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["(0, 0)", "True", "True"]
    assert done.stderr.count("Fatal Python error: Aborted") == 2


def test_a_child_that_starts_after_its_supervisor_died_ends_at_once() -> None:
    command = [sys.executable, "-c", START, "1"]  # not its parent's number
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 1
    assert done.stdout == b""
