"""The container's files, as far as they can be looked at where no container runs."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.metrics.report import write_report
from ssn_contract.metrics import StationMetrics
from support.children import environment
from support.ledgers import settings_in

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "container"
CONTAINERFILE = (FOLDER / "Containerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONLINE = ROOT / "tests/contract/golden/metrics/valid/online.json"
DEMO_BUNDLE = ROOT / "agent/ssn_agent/demo/demo-1.0.0.ssn"


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


def is_healthy(runtime: Path, bin_folder: Path) -> bool:
    """Run the health check as the image has it, but for the folder."""
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", CONTAINERFILE, re.DOTALL)
    assert found is not None
    command = [part.replace("/run/ssn-agent", str(runtime)) for part in json.loads(found[1])]
    path = f"{bin_folder}:{os.environ['PATH']}"
    return subprocess.run(command, check=False, env={**environment(), "PATH": path}).returncode == 0


def test_a_container_is_healthy_where_an_agent_runs_whatever_its_alarms(
    runtime: Path, tmp_path: Path
) -> None:
    command = tmp_path / "ssn-agent"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ssn_agent.cli "$@"\n')
    command.chmod(0o755)
    files = RuntimeFiles(runtime)
    metrics = StationMetrics.model_validate_json(ONLINE.read_text("utf-8"))
    write_report(files.figures, metrics.model_copy(update={"alarms": ["disk: 3 MiB free"]}))
    settings = settings_in(tmp_path, runtime_dir=runtime)
    files.settings.write_text(settings.model_dump_json())
    assert not is_healthy(runtime, tmp_path)
    with files.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_healthy(runtime, tmp_path)


def test_the_image_s_user_is_not_root_and_its_own_folders_are_that_user_s() -> None:
    *_, final = CONTAINERFILE.split("\nFROM ")
    user = re.findall(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user == [("10001", "10001")]
    assert "--uid 10001" in final
    mounted = next(t for t in SERVICES["agent"]["tmpfs"] if t.startswith("/run/ssn-agent:"))
    assert "uid=10001,gid=10001,mode=0700" in mounted


def test_the_image_is_made_of_files_that_are_there_and_that_the_build_is_given() -> None:
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    given = (FOLDER / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in given if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_a_service_can_change_nothing_but_its_volumes_and_is_reached_from_this_machine_alone(
    service: dict[str, Any],
) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid"} & service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for volume in service["volumes"]:
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (FOLDER / source).is_file()
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_the_agent_has_as_long_to_end_as_the_unit_gives_it() -> None:
    unit = (ROOT / "systemd" / "ssn-agent.service").read_text("utf-8")
    allowed = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert allowed is not None
    assert int(SERVICES["agent"]["stop_grace_period"].removesuffix("s")) >= int(allowed[1])
    assert "agent:/var/lib/ssn-agent" in SERVICES["agent"]["volumes"]


def test_the_agent_s_settings_are_sound(
    ssn_agent: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    here = ["--set", f"cameras.line.bundle={DEMO_BUNDLE}", "--set", f"data_dir={tmp_path}"]
    code, out, err = ssn_agent("config", "check", "-c", FOLDER / "agent.toml", *here)
    assert (code, err) == (0, ""), out
    text = (FOLDER / "agent.toml").read_text("utf-8")
    assert f"/python3.11/site-packages/ssn_agent/demo/{DEMO_BUNDLE.name}" in text
    assert CONTAINERFILE.count("FROM python:3.11-") == 2


@pytest.mark.needs("promtool")
def test_prometheus_takes_its_settings_and_asks_the_agent(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "deploy/prometheus/ssn-inspect.rules.yml", tmp_path)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agent:9464" in (tmp_path / "prometheus.yml").read_text("utf-8")
