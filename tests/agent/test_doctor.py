"""The doctor's judgement, where the fault itself cannot be had in a test."""

import os
from pathlib import Path

import numpy as np
import pytest

from ssn_agent.capture.camera import Frame, FrameIds
from ssn_agent.commissioning.bench import Bench, Figures
from ssn_agent.commissioning.session import Chosen
from ssn_agent.doctor.account import Account
from ssn_agent.doctor.cameras import judged
from ssn_agent.doctor.disk import disk
from ssn_agent.doctor.environment import take_service_environment
from ssn_agent.doctor.findings import Finding, Level, Subject, looked_at, ok
from ssn_agent.doctor.memory import memory
from ssn_agent.errors import CameraError, LedgerError
from ssn_agent.settings import Settings, described_camera
from support.scripted import Script

GRAY = np.full((6, 8), 100, np.uint8)


def measured(*frames: "Frame | CameraError") -> Figures:
    script = Script(*frames)
    script.frame_ids = FrameIds(1, 100)
    chosen = Chosen("left", described_camera(["kind=line"]), Path("/nowhere"))
    return Bench(script, chosen).run(5)


def subject(folder: Path, **tables: object) -> Subject:
    source = {"source": {"kind": "line"}}
    settings = Settings.model_validate({"data_dir": folder, "cameras": {"left": source}, **tables})
    return Subject(folder, settings, Account("me", os.geteuid(), os.getegid(), ()))


def test_a_camera_that_loses_frames_is_slow_or_fails_is_told_apart_from_one_that_is_well() -> None:
    well = measured(*(Frame(GRAY, frame_id=number) for number in range(1, 9)))
    assert well.per_second is not None
    assert judged("left", "8 x 6", well, well.per_second).level is Level.OK
    slow = judged("left", "8 x 6", well, 2 * well.per_second)
    assert (slow.level, "are wanted" in slow.what) == (Level.WARNING, True)
    lost = measured(*(Frame(GRAY, frame_id=number) for number in (1, 2, 5)))
    said = judged("left", "8 x 6", lost, None)
    assert (said.level, "2 lost, 0 incomplete" in said.what) == (Level.WARNING, True)
    failed = judged("left", "8 x 6", measured(Frame(GRAY), CameraError("cable pulled")), None)
    assert (failed.level, "cable pulled" in failed.what) == (Level.FAULT, True)


def test_limits_of_memory_and_of_disk_that_the_machine_has_no_room_for_are_warnings(
    tmp_path: Path,
) -> None:
    total = next(memory(subject(tmp_path))).what.split()[0]
    share = int(total) * 2 // 3
    found = list(memory(subject(tmp_path, memory={"capture_mib": share, "inference_mib": share})))
    assert [(one.level, one.do != "") for one in found] == [(Level.WARNING, True)]
    retention = {"min_free_percent": 0, "ledger_gib": 2**20}
    found = list(disk(subject(tmp_path, retention=retention)))
    assert [one.level for one in found] == [Level.OK, Level.WARNING]
    assert "retention may keep 104" in found[1].what


def test_a_check_that_fails_costs_none_of_the_others(tmp_path: Path) -> None:
    def ours(_: Subject) -> list[Finding]:
        raise LedgerError("the ledger is away; bring it back")

    def system(_: Subject) -> list[Finding]:
        raise PermissionError(13, "Permission denied")

    def broken(_: Subject) -> list[Finding]:
        raise KeyError("x")

    checks = {"a": ours, "b": system, "c": broken, "d": lambda _: [ok("well")]}
    found = looked_at(subject(tmp_path), checks)
    assert [(one.check, one.level.value) for one in found] == [
        ("a", "fault"),
        ("b", "unknown"),
        ("c", "unknown"),
        ("d", "ok"),
    ]
    assert (found[0].what, found[0].do) == ("the ledger is away", "bring it back")
    assert "the check itself failed: KeyError" in found[2].what


def test_the_service_s_environment_is_read_as_systemd_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"SSN_BROKER__{name}" for name in ("PASSWORD", "USERNAME", "HOST", "PORT", "KEY")]
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv(names[2], "here")
    (tmp_path / "ssn-agent.env").write_text(
        "# SSN_BROKER__PORT=1\n"
        'SSN_BROKER__PASSWORD="a \\"b\\" \\\\ $c"\n'
        "  SSN_BROKER__USERNAME= box-a \n"
        "SSN_BROKER__HOST=there\n"
        "PATH=/nowhere\n"
        "SSN_BROKER__KEY='not closed\n"
    )
    before = os.environ["PATH"]
    take_service_environment(tmp_path / "agent.toml")
    assert [os.environ.get(name) for name in names] == ['a "b" \\ $c', "box-a", "here", None, ""]
    assert os.environ["PATH"] == before
    take_service_environment(tmp_path / "none" / "agent.toml")
