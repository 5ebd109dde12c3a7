"""The line to the broker over TLS: who is trusted, who is refused, and files that are replaced."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from ssn_agent.errors import BrokerError
from ssn_agent.publish import certificates as module
from ssn_agent.publish.certificates import Certificates, load
from ssn_agent.publish.events import Connected
from ssn_agent.publish.settings import BrokerSettings
from support.certificates import Authority, Plant, encrypted
from support.line import WILL, Line
from support.mosquitto import Subscriber
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto", "openssl")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with closing(Plant(tmp_path)) as made:
        yield made


def test_a_station_with_a_certificate_of_the_plant_is_taken_by_tls_1_3(plant: Plant) -> None:
    broker = plant.broker()
    with plant.line() as line:
        line.connected()
        assert line.acknowledged(line.publish("ssn/n", "1")) is None
        assert line.link.problem is None
    assert "u'box-1'" in broker.log()


def test_a_broker_whose_authority_is_unknown_is_not_talked_to(plant: Plant) -> None:
    plant.broker()
    with plant.line(ca_file=Authority(plant.folder, "other").cert) as line:
        reason = line.disconnected()
    assert "its certificate is not trusted" in reason
    assert "check broker.ca_file" in reason


def test_a_broker_whose_certificate_has_expired_is_not_talked_to(plant: Plant) -> None:
    plant.broker(issued=plant.authority.issue("broker", days=-1))
    with plant.line() as line:
        assert "certificate has expired" in line.disconnected()


def test_a_broker_under_another_name_is_not_talked_to(plant: Plant) -> None:
    plant.broker(issued=plant.authority.issue("broker", alternative="DNS:elsewhere"))
    with plant.line() as line:
        assert "mismatch" in line.disconnected()


def refused(plant: Plant) -> str:
    plant.broker()
    with plant.line() as line:
        reason = line.disconnected()
        assert not any(isinstance(event, Connected) for event in line.events)
    return reason


def test_a_station_that_the_broker_does_not_trust_is_told_so(plant: Plant) -> None:
    plant.install(Authority(plant.folder, "other").issue("box-1"), plant.authority.cert)
    assert "certificate" in refused(plant)


def test_a_station_whose_certificate_has_expired_is_told_so(plant: Plant) -> None:
    plant.install(plant.authority.issue("box-1", days=-1), plant.authority.cert)
    assert "certificate" in refused(plant)


def test_a_station_without_a_certificate_is_told_that_one_is_wanted(plant: Plant) -> None:
    plant.broker()
    with plant.line(cert_file=None, key_file=None) as line:
        assert "certificate" in line.disconnected()


def test_a_port_without_tls_and_tls_without_its_port_are_told_as_such(plant: Plant) -> None:
    broker = plant.broker()
    with plant.line(port=broker.port) as line:
        assert "no connection to 127.0.0.1" in line.disconnected()
    plain = {"tls": False, "ca_file": None, "cert_file": None, "key_file": None}
    with plant.line(**plain) as line:
        assert "check the settings of [broker]" in line.disconnected()


def test_certificates_that_were_replaced_are_taken_up_without_an_offline_and_without_a_loss(
    plant: Plant,
) -> None:
    broker = plant.broker()
    with closing(Subscriber(broker.port, plant.folder)) as subscriber, plant.line() as line:
        line.connected()
        line.acknowledged(line.publish("ssn/n", "1"))
        new = Authority(plant.folder, "new")
        both = plant.folder / "both.pem"
        both.write_text(new.cert.read_text() + plant.authority.cert.read_text())
        plant.install(plant.authority.issue("box-1-renewed"), both)
        line.link.look_at_certificates()
        line.connected(2)
        line.acknowledged(line.publish("ssn/n", "2"))
        assert line.link.problem is None
        wait_until(lambda: len(subscriber.received()) >= 3, 10, "not all arrive")
        assert not any(m.topic == WILL for m in subscriber.received())
    assert "u'box-1-renewed'" in broker.log()


def test_files_that_are_replaced_are_noticed_without_a_signal(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.1)
    broker = plant.broker()
    with plant.line() as line:
        line.connected()
        plant.install(plant.authority.issue("box-1-renewed"), plant.ca)
        line.connected(2)
    assert "u'box-1-renewed'" in broker.log()


def still_connected(line: Line, problem: str) -> None:
    """Check that the files in place are not taken over, and cost nothing."""
    line.link.look_at_certificates()
    wait_until(lambda: problem in str(line.link.problem), 10, f"not {line.link.problem}")
    assert line.acknowledged(line.publish("ssn/n", "still here")) is None
    assert not any(isinstance(e, Connected) and e.connection > 1 for e in line.events)


def test_broken_or_wrong_files_leave_the_connection_as_it_is_until_they_are_mended(
    plant: Plant,
) -> None:
    broker = plant.broker()
    other = Authority(plant.folder, "other")
    with plant.line() as line:
        line.connected()
        plant.files.key.write_text("no key")
        still_connected(line, "broker.cert_file and key_file do not load")
        plant.install(plant.authority.issue("box-1-renewed"), other.cert)
        still_connected(line, "its certificate is not trusted")
        plant.install(other.issue("box-1-renewed"), plant.authority.cert)
        still_connected(line, "refuses our certificate")
        plant.ca.unlink()
        still_connected(line, str(plant.ca))
        plant.install(plant.authority.issue("box-1-mended"), plant.authority.cert)
        line.link.look_at_certificates()
        line.connected(2)
        assert line.link.problem is None
    assert "u'box-1-mended'" in broker.log()


def test_a_station_with_broken_files_connects_when_they_are_mended(plant: Plant) -> None:
    plant.broker()
    sound = plant.ca.read_bytes()
    plant.ca.write_bytes(b"")
    with plant.line() as line:
        assert "broker.ca_file does not load" in line.disconnected()
        plant.ca.write_bytes(sound)
        line.connected()


def test_a_key_with_a_password_is_an_error_and_no_question(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "plant").issue("box")
    key = encrypted(issued.key, tmp_path / "encrypted.key")
    settings = BrokerSettings(tls=True, cert_file=issued.cert, key_file=key)
    with pytest.raises(BrokerError, match="the key is not encrypted"):
        load(settings)


def test_files_that_may_not_be_read_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "plant")
    settings = BrokerSettings(tls=True, ca_file=authority.cert)
    authority.cert.unlink()
    certificates = Certificates(settings)
    assert str(authority.cert) in str(certificates.problem)
    assert certificates.context is None


def test_certificates_without_tls_are_refused_by_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    with pytest.raises(ValidationError, match=r"set broker\.tls = true"):
        BrokerSettings(ca_file=tmp_path / "ca.pem")
