"""A site's authority: what it makes, what it refuses, and what a killed command leaves."""

import inspect
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from paho.mqtt.client import topic_matches_sub
from typer.testing import CliRunner, Result

from ssn_agent.errors import PassphraseError, ProvisionError
from ssn_agent.provision.broker_files import INWARD, OUTWARD
from ssn_agent.provision.commands import app
from ssn_agent.provision.register import Site, read_register
from ssn_agent.provision.site import changing, make_site
from ssn_agent.settings import load_settings
from ssn_contract.topics import Station, Topics
from support.children import environment
from support.killed import kill_at_each_step

PASSPHRASE = b"correct horse battery staple"
NOW = datetime(2026, 5, 1, 6, 0, tzinfo=timezone.utc)
BOX = "plant1/line2/box3"


def made(folder: Path) -> Path:
    make_site(folder, "plant1", ["broker.plant", "10.0.0.7"], lambda: PASSPHRASE, NOW)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "site")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def revoked(folder: Path) -> set[int]:
    found = x509.load_pem_x509_crl((folder / "broker" / "crl.pem").read_bytes())
    assert found.is_signature_valid(certificate(folder / "ca.pem").public_key())  # type: ignore[arg-type]  # an EC key
    return {entry.serial_number for entry in found}


def test_a_site_is_made_whole_for_its_owner_alone_with_its_key_encrypted(folder: Path) -> None:
    assert set(files(folder)) == {
        *("ca.key", "ca.pem", "register.json"),
        *(f"broker/{name}" for name in ("acl", "ca.pem", "crl.pem", "mosquitto.conf")),
        "broker/server.pem",
    }
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert (folder / "ca.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    server = certificate(folder / "broker" / "server.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.plant"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert server.not_valid_after_utc == NOW + timedelta(days=825)
    assert server.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate(folder / "ca.pem").not_valid_after_utc == NOW + timedelta(days=3650)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_station_gets_its_certificate_and_settings_that_the_agent_takes(
    folder: Path, tmp_path: Path
) -> None:
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        place = provisioner.station(BOX, NOW)
    assert {path.name for path in place.iterdir()} == {"ca.pem", "station.pem", "broker.toml"}
    own = certificate(place / "station.pem")
    assert own.subject.rfc4514_string() == f"CN={BOX}"
    own.verify_directly_issued_by(certificate(place / "ca.pem"))
    key = load_pem_private_key((place / "station.pem").read_bytes(), None)
    assert key.public_key() == own.public_key()
    text = (place / "broker.toml").read_text().replace("/etc/ssn-agent/broker", str(place))
    config = tmp_path / "agent.toml"
    config.write_text(text + "[cameras.left.source]\nkind = 'line'\n")
    settings = load_settings(config)
    assert str(settings.station) == BOX
    assert (settings.broker.host, settings.broker.port) == ("broker.plant", 8883)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(str(settings.broker.cert_file), str(settings.broker.key_file))


def test_every_topic_of_the_contract_is_one_that_a_station_may_write_or_read() -> None:
    topics = Topics(Station(site="plant1", line="line2", station="box3"))
    given: dict[str, object] = {"camera": "top", "sequence": 7}
    for name in dir(Topics):
        if not name.startswith("_") and name not in ("root", "station"):
            found = getattr(topics, name)
            if callable(found):
                found = found(*(given[key] for key in inspect.signature(found).parameters))
            below = str(found).removeprefix(f"{topics.root}/")
            matches = [rule for rule in (*OUTWARD, *INWARD) if topic_matches_sub(rule, below)]
            assert len(matches) == 1, name


def test_an_authority_is_never_overwritten(folder: Path) -> None:
    before = files(folder)
    with pytest.raises(ProvisionError, match="never overwritten; name a new folder"):
        made(folder)
    assert files(folder) == before


@pytest.mark.parametrize("host", ["", "a b", 'x"\ntls = false', "brökér", "*.plant", "-x"])
def test_a_host_that_no_client_could_check_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ProvisionError, match="neither an address nor a DNS name"):
        make_site(tmp_path / "site", "plant1", [host], lambda: PASSPHRASE, NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_name_has_one_certificate_until_it_is_renewed_or_revoked(folder: Path) -> None:
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        pem = provisioner.station(BOX, NOW) / "station.pem"
        with pytest.raises(ProvisionError, match="`provision renew` it, or `revoke` it first"):
            provisioner.station(BOX, NOW)
        first = certificate(pem).serial_number
        provisioner.renew(BOX, NOW)
        second = certificate(pem).serial_number
        assert (first != second, revoked(folder)) == (True, set())
        assert provisioner.revoke(BOX, NOW, older=True) == 1
        assert revoked(folder) == {first}
        assert provisioner.revoke(BOX, NOW, older=False) == 1
        assert revoked(folder) == {first, second}
        assert provisioner.revoke(BOX, NOW, older=False) == 0
        with pytest.raises(ProvisionError, match=f"{BOX}: has no certificate in force"):
            provisioner.renew(BOX, NOW)
        provisioner.station(BOX, NOW)


def test_rights_of_a_client_come_and_go_with_its_certificate(folder: Path) -> None:
    acl = folder / "broker" / "acl"
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        provisioner.client("mes", "controller", "line2", NOW)
        assert "topic write ssn/v1/plant1/line2/+/+/trigger\n" in acl.read_text()
        provisioner.revoke("mes", NOW, older=False)
    assert "client:" not in acl.read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plant1/line2", "write it as plant1/LINE/STATION"),
        ("plant2/line2/box3", "this is the authority of plant1"),
        ("plant1/+/box3", "cannot be a level"),
        ("plant1/line2/#", "cannot be a level"),
        ("plant1/channel/box3", "give the line another name"),
        (f"plant1/{'l' * 30}/{'s' * 30}", "longer than 64 characters"),
    ],
)
def test_a_name_that_would_reach_beyond_its_own_topics_is_refused(
    folder: Path, name: str, words: str
) -> None:
    before = files(folder)
    with (
        changing(folder, lambda: PASSPHRASE) as provisioner,
        pytest.raises(ProvisionError, match=words),
    ):
        provisioner.station(name, NOW)
    assert files(folder).keys() - {".lock"} == before.keys()


def test_an_authority_that_has_ended_says_so(folder: Path) -> None:
    ended = certificate(folder / "ca.pem").not_valid_after_utc
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        provisioner.station(BOX, ended - timedelta(hours=1))
        for change in (
            lambda: provisioner.renew(BOX, ended + timedelta(days=2)),
            lambda: provisioner.revoke(BOX, ended + timedelta(days=2), older=False),
        ):
            with pytest.raises(ProvisionError, match="the authority ended on 2036-04-28; make a"):
                change()


def test_a_client_whose_name_no_certificate_takes_is_refused(folder: Path) -> None:
    before = files(folder)
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        with pytest.raises(ProvisionError, match="64 characters of a certificate's name"):
            provisioner.client("c" * 58, "dashboard", None, NOW)
        assert files(folder).keys() - {".lock"} == before.keys()
        provisioner.client("c" * 57, "dashboard", None, NOW)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "ca.key").write_text("x"), "ca.key: does not open: a wrong passphrase"),
        (lambda f: (f / "ca.key").unlink(), "ca.key: cannot be read .* put its backup back"),
        (lambda f: (f / "register.json").write_text("{"), "register.json: damaged"),
        (lambda f: (f / "register.json").unlink(), "no site is there"),
    ],
)
def test_a_damaged_folder_is_said_to_be_and_nothing_is_issued(
    folder: Path, break_it: Callable[[Path], object], words: str
) -> None:
    break_it(folder)
    with (
        pytest.raises(ProvisionError, match=words),
        changing(folder, lambda: PASSPHRASE) as provisioner,
    ):
        provisioner.station(BOX, NOW)
    assert not (folder / "stations").exists()


def test_two_commands_at_once_do_not_mix(folder: Path) -> None:
    with (
        changing(folder, lambda: PASSPHRASE),
        pytest.raises(ProvisionError, match="another command is changing it"),
        changing(folder, lambda: PASSPHRASE),
    ):
        pytest.fail("both have it")


def make_in(folder: Path) -> None:
    made(folder / "site")


def issue_in(folder: Path) -> None:
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        provisioner.station(BOX, NOW)


def revoke_in(folder: Path) -> None:
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        provisioner.revoke(BOX, NOW, older=False)


def test_a_site_whose_making_is_killed_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    steps = kill_at_each_step(make_in, tmp_path / "start", tmp_path / "out")
    assert len(steps) > 10
    for number in range(1, len(steps) + 1):
        place = tmp_path / "out" / str(number) / "site"
        if place.exists():
            assert len(files(place)) == 8
        else:
            make_in(place.parent)


def test_a_killed_command_leaves_whole_files_and_no_certificate_that_is_not_registered(
    folder: Path, tmp_path: Path
) -> None:
    steps = kill_at_each_step(issue_in, folder, tmp_path / "out")
    for number in range(1, len(steps) + 1):
        place = tmp_path / "out" / str(number)
        known = {entry.serial for entry in read_register(place).issued}
        for path in place.rglob("*.pem"):
            if path.name in ("server.pem", "station.pem") and not path.name.startswith("."):
                load_pem_private_key(path.read_bytes(), None)
                assert f"{certificate(path).serial_number:x}" in known
        with changing(place, lambda: PASSPHRASE) as provisioner:
            again = provisioner.renew if provisioner.site.entries(BOX) else provisioner.station
            again(BOX, NOW)


def test_a_killed_revocation_is_made_up_for_by_the_next_change(
    folder: Path, tmp_path: Path
) -> None:
    with changing(folder, lambda: PASSPHRASE) as provisioner:
        serial = certificate(provisioner.station(BOX, NOW) / "station.pem").serial_number
    steps = kill_at_each_step(revoke_in, folder, tmp_path / "out")
    for number in range(1, len(steps) + 1):
        place = tmp_path / "out" / str(number)
        was = bool(read_register(place).entries(BOX))
        with changing(place, lambda: PASSPHRASE) as provisioner:
            if was:
                provisioner.revoke(BOX, NOW, older=False)
            else:
                provisioner.renew("broker", NOW)
        assert revoked(place) == {serial}


def provision(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_from_a_new_site_to_its_list(tmp_path: Path) -> None:
    secret, folder = tmp_path / "passphrase", tmp_path / "site"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o600)
    by = ("--passphrase-file", secret)
    site = ("site", folder, "--site", "plant1", "--broker-host", "broker.plant, 10.0.0.7", *by)
    for command in (
        site,
        ("station", folder, BOX, *by),
        ("client", folder, "mes", "--role", "controller", "--line", "line2", *by),
        ("renew", folder, BOX, *by),
        ("revoke", folder, "mes", *by),
    ):
        done = provision(*command)
        assert (done.exit_code, done.stderr) == (0, ""), command
    shown = provision("show", folder)
    assert shown.exit_code == 0
    for words in ("replaced", "revoked", "controller of line2", BOX):
        assert words in shown.stdout
    refused = provision("station", folder, "plant1/line2/box4")
    assert isinstance(refused.exception, PassphraseError)
    assert "no terminal to ask on, and no --passphrase-file was given" in str(refused.exception)
    secret.chmod(0o640)
    assert "chmod 600 it" in str(provision("renew", folder, BOX, *by).exception)


def test_what_ends_within_30_days_has_an_exit_code_for_a_monitor(folder: Path) -> None:
    path = folder / "register.json"
    site = read_register(folder)
    soon = datetime.now(timezone.utc) + timedelta(days=29)
    issued = [entry.model_copy(update={"expires_at": soon}) for entry in site.issued]
    path.write_text(Site(name=site.name, hosts=site.hosts, issued=issued).model_dump_json())
    shown = provision("show", folder)
    assert shown.exit_code == 1
    assert "ends on" in shown.stdout


def test_without_the_extra_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['cryptography'] = None; from ssn_agent.cli import main; main()"
    command = [sys.executable, "-c", code, "provision", "station", str(tmp_path), BOX]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 2
    assert "pip install 'ssn-inspect[provision]'" in done.stderr
