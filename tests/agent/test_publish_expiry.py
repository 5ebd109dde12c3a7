"""Certificates that end: said 30 days before, by the station's status and its figures."""

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ssn_agent.errors import BrokerError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.metrics.exposition import registry
from ssn_agent.metrics.report import station_metrics
from ssn_agent.provision.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS, Authority
from ssn_agent.publish.certificates import Certificates
from ssn_agent.publish.expiry import ends, expiring, not_after
from ssn_agent.publish.settings import BrokerSettings
from ssn_contract.metrics import BrokerCertificates
from support.ledger_process import fed_ledger
from support.site import ProvisionedSite
from support.waiting import wait_until

GAUGE = "ssn_broker_certificate_expires_timestamp_seconds"
LONG_AGO = timedelta(days=1000)
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(timezone.utc)


def issued_with_days_left(days: int) -> datetime:
    """Return when a certificate was made that ends in so many days and an hour."""
    return now() + HOUR - timedelta(days=CERTIFICATE_DAYS - days)


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize(("days", "alarms"), [(29, 1), (31, 0)])
def test_a_station_says_30_days_before_that_its_certificate_ends(
    tmp_path: Path, days: int, alarms: int
) -> None:
    site = ProvisionedSite.made(tmp_path, now() - LONG_AGO)
    with site.changing() as provisioner:
        provisioner.renew("broker", now())
    folder = site.station("line2/box3", issued_with_days_left(days))
    site.start()
    pem = folder / "station.pem"
    broker = {"port": site.port, "tls": True, "ca_file": folder / "ca.pem"}
    broker |= {"cert_file": pem, "key_file": pem}
    try:
        with fed_ledger(tmp_path, site.port, broker=broker) as ledger:
            ledger.start()
            files = RuntimeFiles(ledger.settings.runtime_dir)

            def ends_of() -> dict[str, float]:
                figures = registry(lambda: station_metrics(files, ledger.settings), {})
                found = figures.collect()
                samples = (sample for family in found for sample in family.samples)
                return {s.labels["certificate"]: s.value for s in samples if s.name == GAUGE}

            wait_until(lambda: len(ends_of()) == 3, 20, "no figures")
            said = station_metrics(files, ledger.settings).alarms
            left = {name: (end - now().timestamp()) / 86400 for name, end in ends_of().items()}
    finally:
        site.stop()
    ours = [alarm for alarm in said if "our certificate ends on" in alarm]
    assert len(ours) == alarms
    assert all(f", in {days} days; renew it (docs/broker.md)" in alarm for alarm in ours)
    assert not [alarm for alarm in said if "authority" in alarm or "the broker's" in alarm]
    assert int(left["own"]) == days
    assert int(left["authority"]) == AUTHORITY_DAYS - LONG_AGO.days - 1
    assert int(left["broker"]) == CERTIFICATE_DAYS - 1


def test_each_certificate_that_ends_is_named_with_what_to_do() -> None:
    at = datetime(2026, 5, 1, tzinfo=timezone.utc)
    soon, far = at + timedelta(days=1, hours=2), at + timedelta(days=30, seconds=1)
    assert expiring(BrokerCertificates(own=far, authority=far, broker=None), at) == []
    assert expiring(None, at) == []
    said = expiring(BrokerCertificates(own=at, authority=soon, broker=soon), at)
    assert [alarm.removesuffix(" (docs/broker.md)") for alarm in said] == [
        "broker: our certificate ended on 2026-05-01; renew it",
        "broker: the authority's certificate ends on 2026-05-02, in 1 day; replace it",
        "broker: the broker's certificate ends on 2026-05-02, in 1 day; renew it",
    ]


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2071])
def test_the_end_is_read_out_of_a_certificate_also_beyond_2050(year: int) -> None:
    made = datetime(year, 3, 4, 5, 6, 7, tzinfo=timezone.utc) - timedelta(days=AUTHORITY_DAYS)
    der = ssl.PEM_cert_to_DER_cert(Authority.make("plant1", made).pem.decode())
    assert not_after(der) == datetime(year, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
    for length in range(len(der)):
        with pytest.raises((ValueError, IndexError)):
            not_after(der[:length])


def test_of_several_authorities_in_a_file_the_first_to_end_counts(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    made = [Authority.make("plant1", now() - timedelta(days=days)) for days in (3, 500, 30)]
    file.write_bytes(b"".join(authority.pem for authority in made))
    found = ends(BrokerSettings(tls=True, ca_file=file))
    assert found.own is None
    assert found.authority is not None
    assert (found.authority - now()).days == AUTHORITY_DAYS - 501


def test_a_certificate_that_cannot_be_read_here_is_named_and_costs_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Authority.make("plant1", now()).pem)
    settings = BrokerSettings(tls=True, ca_file=file)
    monkeypatch.setattr("ssn_agent.publish.expiry.not_after", lambda _: int("x"))
    with pytest.raises(BrokerError, match=r"broker.ca_file: .* a damaged certificate .* replace"):
        ends(settings)
    loaded = Certificates(settings)
    assert loaded.context is not None
    assert (loaded.ends, loaded.problem) == (None, None)
