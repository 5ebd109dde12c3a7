"""`ssn-agent doctor`: each planted fault is named, with what to do, and nothing that is sound."""

import json
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ssn_agent.doctor.account import account_of, acting_as
from ssn_agent.doctor.findings import Level
from ssn_agent.doctor.service import judged
from ssn_agent.errors import AgentError
from ssn_agent.metrics.view import look
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.certificates import Authority, Plant
from support.channels import Plant as Channel
from support.channels import static_files
from support.disks import SmallDisk, small_disk
from support.mosquitto import Mosquitto, free_port
from support.patients import TOKEN, Patient, parts_of
from support.terminal import terminal
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "openssl")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A broker that wants certificates, for all tests here."""
    made = Plant(tmp_path_factory.mktemp("plant"))
    with closing(made):
        yield made


@pytest.fixture(scope="module")
def broker(plant: Plant) -> Mosquitto:
    """The plant's: at one port it wants a certificate of each client, and its name is that."""
    return plant.broker("use_username_as_clientid true")


@pytest.fixture
def patient(tmp_path: Path, broker: Mosquitto) -> Patient:
    return Patient.sound(tmp_path, broker.port)


@pytest.fixture
def secured(patient: Patient, plant: Plant) -> Patient:
    """A station with a certificate."""
    patient.tables["broker"] = plant.settings()
    return patient


# The faults, each as it comes about.


def missing_bundle(patient: Patient) -> None:
    Path(patient.left["bundle"]).unlink()


def damaged_bundle(patient: Patient) -> None:
    path = Path(patient.left["bundle"])
    data = bytearray(path.read_bytes())
    at = data.index(b"brightness", data.index(b"model.onnx"))
    data[at] ^= 1
    path.write_bytes(data)


def broker_away(patient: Patient) -> None:
    patient.tables["broker"]["port"] = free_port()


def wrong_authority(patient: Patient) -> None:
    patient.tables["broker"]["ca_file"] = Authority(patient.folder, "other").cert


def key_for_everybody(patient: Patient) -> None:
    key = patient.folder / "open.key"
    key.write_bytes(Path(patient.tables["broker"]["key_file"]).read_bytes())
    key.chmod(0o644)
    patient.tables["broker"]["key_file"] = key


def certificate_without_its_key(patient: Patient) -> None:
    patient.tables["broker"]["key_file"] = Authority(patient.folder, "other").issue("x").key


def camera_not_there(patient: Patient) -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/cam"
    patient.left["source"] = {"kind": "rtsp", "url": url}


def device_not_there(patient: Patient) -> None:
    patient.left["source"] = {"kind": "v4l2", "device": "/dev/video97"}


def picture_without_its_region(patient: Patient) -> None:
    patient.left["roi"] = {"x": 0, "y": 0, "width": 9000, "height": 10}


def ledger_of_a_newer_version(patient: Patient) -> None:
    with closing(sqlite3.connect(patient.data / "ledger.sqlite")) as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999'")
        ledger.commit()


def damaged_ledger(patient: Patient) -> None:
    with (patient.data / "ledger.sqlite").open("r+b") as file:
        file.write(b"no database at all")


def unknown_key(patient: Patient) -> None:
    patient.left["tresh0ld"] = 0.5


def token_for_everybody(patient: Patient) -> None:
    Path(patient.tables["http"]["token_file"]).chmod(0o644)


def limit_beyond_the_machine(patient: Patient) -> None:
    patient.tables["memory"]["inference_mib"] = 2**20


def engine_not_to_be_had(patient: Patient) -> None:
    patient.tables["inference"] = {"engine": "onnxruntime-cuda/fp32"}


def two_runtimes(patient: Patient) -> None:
    packages = patient.folder / "packages"
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = packages / f"{name}-1.20.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.20.0\n")
    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    patient.environment["PYTHONPATH"] = path


def clock_behind(patient: Patient) -> None:
    later = time.time() + 86_400
    os.utime(patient.data / "ledger.sqlite", (later, later))


def root_of_no_channel(patient: Patient) -> None:
    root = patient.folder / "root.json"
    root.write_text("{}")
    url = f"http://127.0.0.1:{free_port()}/channel"
    patient.tables["channel"] = {"url": url, "root_file": root, "bundles": ["parts"]}


FAULTS: dict[Callable[[Patient], None], tuple[str, str, str]] = {
    # check, what, what to do
    missing_bundle: ("bundles", "b.ssn: cannot be read", "copy it here anew"),
    damaged_bundle: ("bundles", "not a bundle, or damaged", "copy it here anew"),
    broker_away: ("broker", "Connection refused", "does it run"),
    camera_not_there: ("cameras", "does not open", "ssn-agent camera probe left"),
    device_not_there: ("cameras", "/dev/video97: does not open", "ssn-agent camera probe left"),
    picture_without_its_region: ("cameras", "cannot be judged: the region", "camera probe left"),
    ledger_of_a_newer_version: ("ledger", "schema 9999 is of a newer version", "update the agent"),
    damaged_ledger: ("ledger", "is damaged", "restore a backup"),
    unknown_key: ("settings", "tresh0ld: unknown key; did you mean threshold?", "correct it"),
    token_for_everybody: ("HTTP token", "others may use it (mode 0644)", "chmod 0600"),
    limit_beyond_the_machine: ("memory", "memory.inference_mib is 1048576 MiB", "lower it"),
    engine_not_to_be_had: ("engines", "onnxruntime-cuda/fp32", 'set engine = "auto"'),
    two_runtimes: ("runtime", "onnxruntime and onnxruntime-gpu", "pip uninstall"),
    clock_behind: ("clock", "the clock is behind", "timedatectl set-ntp true"),
    root_of_no_channel: ("channel", "root.json", "docs/channels.md"),
}
OF_CERTIFICATES: dict[Callable[[Patient], None], tuple[str, str, str]] = {
    wrong_authority: ("broker", "its certificate is not trusted", "docs/broker.md"),
    key_for_everybody: ("TLS files", "everybody's to read (mode 0644)", "chmod 0640"),
    certificate_without_its_key: ("TLS files", "key_file do not load", "docs/operations.md"),
}


def test_a_sound_station_has_no_fault_at_a_terminal(secured: Patient) -> None:
    patient = secured
    out = patient.folder / "to send.tar.gz"
    arguments = ("doctor", "--config", patient.config, "--out", out, "--user", "root")
    with terminal(*arguments, columns=100) as person:
        code = person.end()
    assert (code, "no faults" in person.seen) == (0, True), person.seen
    for check in ("cameras", "bundles", "broker", "disk", "ledger", "runtime"):
        assert f"ok       {check}" in person.seen
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert parts_of(out)


@pytest.mark.parametrize("plant_it", FAULTS, ids=lambda planted: planted.__name__)
def test_the_planted_fault_is_named_with_what_to_do_and_no_other(
    patient: Patient, plant_it: Callable[[Patient], None]
) -> None:
    names_exactly(patient, plant_it, FAULTS[plant_it])


@pytest.mark.parametrize("plant_it", OF_CERTIFICATES, ids=lambda planted: planted.__name__)
def test_the_planted_fault_of_certificates_is_named_with_what_to_do_and_no_other(
    secured: Patient, plant_it: Callable[[Patient], None]
) -> None:
    names_exactly(secured, plant_it, OF_CERTIFICATES[plant_it])


def names_exactly(
    patient: Patient, plant_it: Callable[[Patient], None], expected: tuple[str, str, str]
) -> None:
    plant_it(patient)
    report = patient.doctor()
    check, what, do = expected
    assert [one["check"] for one in report.faults] == [check]
    assert what in report.faults[0]["what"]
    assert do in report.faults[0]["do"]
    assert report.code == 1
    assert f"fault    {check}" in report.shown


def test_a_certificate_that_has_ended_is_named_and_one_that_ends_soon_is_told_before(
    secured: Patient, plant: Plant
) -> None:
    patient = secured
    later = plant.authority.issue("later", days=300)
    patient.tables["broker"] |= {"cert_file": later.cert, "key_file": later.key}
    told = [one["what"] for one in patient.doctor().of("broker") if one["level"] == "warning"]
    # Those of authority and broker are valid for two days here.
    assert [what.partition(" ends")[0] for what in told] == [
        "the authority's certificate",
        "the broker's certificate",
    ]
    soon = plant.authority.issue("soon", days=20)
    patient.tables["broker"] |= {"cert_file": soon.cert, "key_file": soon.key}
    report = patient.doctor()
    assert not report.faults
    told = [one["what"] for one in report.of("broker") if one["level"] == "warning"]
    assert any("our certificate ends on" in what and "in 19 days" in what for what in told)
    ended = plant.authority.issue("ended", days=-1)
    patient.tables["broker"] |= {"cert_file": ended.cert, "key_file": ended.key}
    report = patient.doctor()
    assert [one["check"] for one in report.faults][:1] == ["broker"]
    assert {one["check"] for one in report.faults} == {"broker"}
    assert "our certificate ended on" in report.faults[0]["what"]
    assert "renew it" in report.faults[0]["do"]


def test_a_channel_that_nobody_has_signed_anew_is_out_of_date(patient: Patient) -> None:
    long_ago = datetime.now(timezone.utc) - timedelta(days=3650)
    channel = Channel.made(patient.folder / "office", at=long_ago)
    root = channel.metadata / "1.root.json"
    with static_files(channel.folder) as url:
        patient.tables["channel"] = {"url": url, "root_file": root, "bundles": ["parts"]}
        report = patient.doctor()
    assert [one["check"] for one in report.faults] == ["channel"]
    assert "is out of date" in report.faults[0]["what"]
    assert not (patient.data / "channel").exists()


@pytest.fixture
def disk(tmp_path: Path, patient: Patient) -> Iterator[SmallDisk]:
    """A disk of its own for what the station writes, with its ledger."""
    with small_disk(tmp_path / "disk") as made:
        folder = made.path / "data"
        shutil.move(patient.data, folder)
        patient.tables["data_dir"] = folder
        yield made


def test_a_full_disk_and_a_read_only_one_are_named(patient: Patient, disk: SmallDisk) -> None:
    assert not patient.doctor().faults
    disk.fill()
    report = patient.doctor()
    assert [one["check"] for one in report.faults] == ["disk"]
    assert "the disk is full" in report.faults[0]["what"]
    disk.free()
    disk.remount("ro")
    report = patient.doctor()
    assert [one["check"] for one in report.faults] == ["disk"]
    assert "read-only" in report.faults[0]["what"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_root_looks_with_the_rights_of_the_service_s_user(patient: Patient) -> None:
    nobody = account_of("nobody")
    with acting_as(nobody):
        assert os.geteuid() == nobody.uid
        assert not os.access(patient.data, os.W_OK, effective_ids=True)
    assert os.geteuid() == 0
    patient.folder.chmod(0o755)
    report = patient.doctor("--user", "nobody")
    told = [one["what"] for one in report.of("folders") if one["level"] == "fault"]
    assert told
    assert all("nobody may not" in what for what in told)


# An agent that runs.


def test_a_running_agent_is_asked_how_it_does_and_keeps_its_cameras_and_its_broker(
    tmp_path: Path, broker: Mosquitto, plant: Plant
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    camera = {"bundle": bundle, "source": {"kind": "line"}}
    with station(tmp_path, plant.secured_port, **camera) as agent:
        agent.top = {"broker": plant.settings()}
        agent.start()
        agent.wait_for_more(5)
        wait_until(lambda: bool(look(agent.runtime).broker_connected), 30, "no broker")
        wait_until(lambda: states(agent) == ["running"], 30, "the agent does not say that it runs")
        report = Patient(tmp_path).doctor(config=agent.config)
        assert not report.faults
        assert any("the agent is connected" in one["what"] for one in report.of("broker"))
        # A second client by this certificate would have taken the agent's place.
        assert "already connected" not in broker.log()
        assert any("left: running, " in one["what"] for one in report.of("cameras"))
        assert json.loads(report.parts["metrics.json"])["cameras"][0]["camera"] == "left"
        assert json.loads(report.parts["ledger.json"])["cameras"][0]["triggers"] >= 5
        # Settings that the agent does not go by yet are told, and are not in what is sent.
        agent.camera["deadline_ms"] = 999
        report = Patient(tmp_path).doctor(config=agent.config)
        told = [one for one in report.of("settings") if one["level"] == "warning"]
        assert "cameras.left.deadline_ms" in told[0]["what"]
        assert b"999" not in report.parts["settings.json"]


def states(agent: Agent) -> list[str]:
    """Return how its cameras are, as the agent says: that is up to 2 s old."""
    return [camera.state for camera in look(agent.runtime).cameras]


def test_a_process_that_is_replaced_for_its_memory_is_named_with_its_limit(tmp_path: Path) -> None:
    with station(tmp_path, free_port(), source={"kind": "line"}) as agent:
        agent.top = {"memory": {"capture_mib": 64}}  # less than the drawn line takes
        agent.start()
        limits = (agent.runtime, "capture:left")
        wait_until(lambda: over_memory(*limits), 60, "it is not replaced")
        report = Patient(tmp_path).doctor(config=agent.config)
    faults = {one["check"]: one["do"] for one in report.faults}
    assert set(faults) == {"broker", "memory"}
    assert "raise memory.capture_mib" in faults["memory"]


def over_memory(runtime: Path, process: str) -> bool:
    try:
        return any(p.over_memory for p in look(runtime).processes if p.name == process)
    except AgentError:  # it is just starting
        return False


# What is sent.


def test_no_secret_is_in_what_is_sent_wherever_it_was(patient: Patient) -> None:
    secret, other = "correct-horse-battery", "staple-of-the-camera"
    env = patient.folder / "ssn-agent.env"
    env.write_text(f'# the service\'s\nSSN_BROKER__PASSWORD="{secret}"\nPATH=/nowhere\n')
    patient.tables["broker"]["username"] = "box-a"
    patient.left["source"] = {
        "kind": "rtsp",
        "url": f"rtsp://127.0.0.1:{free_port()}/{other}",
        "username": "viewer",
        "password": other,
    }
    (patient.data / "models.json").write_text(f"{secret} {other} {TOKEN}")
    report = patient.doctor()
    everything = b"".join(report.parts.values())
    assert b"blotted out" in report.parts["models.json"]
    for hidden in (secret, other, TOKEN):
        assert hidden.encode() not in everything
    assert b'"username": "box-a"' in report.parts["settings.json"]
    assert {"versions.json", "hardware.txt", "log.txt", "ledger.json"} <= set(report.parts)
    assert b"MemTotal" in report.parts["hardware.txt"]


def test_a_file_that_is_there_stays(patient: Patient) -> None:
    out = patient.folder / "mine.tar.gz"
    out.write_text("mine")
    with terminal("doctor", "--config", patient.config, "--out", out) as person:
        assert person.end() == 2
    assert "is there already" in person.seen
    assert out.read_text() == "mine"


RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "Result": "success",
}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.OK),
        ({"LoadState": "not-found"}, Level.WARNING),
        ({"ActiveState": "failed", "SubState": "failed"}, Level.FAULT),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, Level.FAULT),
        ({"ActiveState": "inactive", "SubState": "dead"}, Level.WARNING),
        ({"NRestarts": "9"}, Level.WARNING),
        ({"UnitFileState": "disabled"}, Level.WARNING),
    ],
)
def test_the_service_is_judged_by_what_systemd_says_of_it(
    changes: dict[str, str], level: Level
) -> None:
    (found,) = judged({**RUNNING, **changes}, runs=False)
    assert found.level is level
    assert bool(found.do) == (level is not Level.OK)
