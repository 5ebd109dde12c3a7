"""The broker as `ssn-agent provision` sets it up: who may do what, who is refused, what is kept."""

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_agent.settings import Settings, load_settings
from ssn_contract.messages import Verdict
from support.agent import station
from support.bundles import write_brightness_bundle
from support.line import Line
from support.parts import draw_parts
from support.site import SITE, Peer, ProvisionedSite
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")

BOX_3, BOX_4 = f"{SITE}/line2/box3", f"{SITE}/line2/box4"
ROOT_3, ROOT_4 = f"ssn/v1/{BOX_3}", f"ssn/v1/{BOX_4}"
CHANNEL = f"ssn/v1/{SITE}/channel/stable"
TAKEN, REFUSED = None, "Not authorized"
OFFLINE_MESSAGES = 3000
"""More than mosquitto keeps by default; 20 000 were tried."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ProvisionedSite]:
    made = ProvisionedSite.made(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_station_publishes_below_its_own_topics_alone(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    pem = site.station("line2/box3") / "station.pem"
    dashboard = site.client("wall", "dashboard")
    site.start()
    reader = peers.enter_context(closing(Peer(site, dashboard)))
    reader.subscribe("ssn/#")
    box = peers.enter_context(closing(Peer(site, pem)))
    own = ["top/verdict", "top/heatmap/7", "top/model", "top/challenge", "status", "metrics"]
    for topic in own:
        assert box.publish(f"{ROOT_3}/{topic}") == TAKEN
    others = [f"{ROOT_4}/{topic}" for topic in own]
    inward = [f"{ROOT_3}/top/trigger", f"{ROOT_3}/label", f"{ROOT_3}/command"]
    for topic in (*others, *inward, CHANNEL, "ssn/v1/x", "x"):
        assert box.publish(topic) == REFUSED, topic
    box.publish(f"{ROOT_3}/status", "control")
    received = [reader.next() for _ in range(len(own) + 1)]
    assert [topic for topic, _ in received[:-1]] == [f"{ROOT_3}/{topic}" for topic in own]
    assert received[-1] == (f"{ROOT_3}/status", b"control")


def test_a_station_reads_what_is_sent_to_it_and_nothing_of_another(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    pems = [site.station(f"line2/{box}") / "station.pem" for box in ("box3", "box4")]
    controller, publisher = site.client("mes", "controller"), site.client("trainer", "publisher")
    site.start()
    ours, others = (peers.enter_context(closing(Peer(site, pem))) for pem in pems)
    ours.subscribe("#")  # granted, as mosquitto does: what comes is asked message by message
    ours.subscribe(f"{ROOT_4}/label")
    mes = peers.enter_context(closing(Peer(site, controller)))
    for topic in ("label", "top/trigger"):
        assert mes.publish(f"{ROOT_4}/{topic}") == TAKEN
    assert others.publish(f"{ROOT_4}/top/verdict") == TAKEN
    assert mes.publish(f"{ROOT_3}/label", "ours") == TAKEN
    assert peers.enter_context(closing(Peer(site, publisher))).publish(CHANNEL, "new") == TAKEN
    assert [ours.next(), ours.next()] == [(f"{ROOT_3}/label", b"ours"), (CHANNEL, b"new")]


def test_a_client_may_do_what_its_role_says(site: ProvisionedSite, peers: ExitStack) -> None:
    pems = [site.station(f"{box}") / "station.pem" for box in ("line2/box3", "line9/box3")]
    made = [
        site.client("mes", "controller", "line2"),
        site.client("wall", "dashboard", "line2"),
        site.client("trainer", "publisher"),
    ]
    site.start()
    boxes = [peers.enter_context(closing(Peer(site, pem))) for pem in pems]
    mes, wall, trainer = (peers.enter_context(closing(Peer(site, pem))) for pem in made)
    label, other_line = f"{ROOT_3}/label", f"ssn/v1/{SITE}/line9/box3"
    assert mes.publish(label) == mes.publish(f"{ROOT_3}/top/trigger") == TAKEN
    assert mes.publish(f"{other_line}/label") == mes.publish(CHANNEL) == REFUSED
    assert mes.publish(f"{ROOT_3}/top/verdict") == mes.publish(f"{ROOT_3}/command") == REFUSED
    assert wall.publish(label) == wall.publish(CHANNEL) == REFUSED
    assert trainer.publish(CHANNEL) == TAKEN
    assert trainer.publish(label) == trainer.publish(f"{ROOT_3}/status") == REFUSED
    for reader in (mes, wall, trainer):
        reader.subscribe("ssn/#")
    assert mes.publish(label, "an operator's name") == TAKEN
    assert boxes[1].publish(f"{other_line}/top/verdict") == TAKEN
    assert boxes[0].publish(f"{ROOT_3}/top/verdict", "ours") == TAKEN
    assert trainer.publish(CHANNEL, "control") == TAKEN
    assert mes.next() == wall.next() == (f"{ROOT_3}/top/verdict", b"ours")
    assert mes.next() == wall.next() == trainer.next() == (CHANNEL, b"control")


def test_nobody_takes_over_anothers_session_by_its_client_id(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    ours, others = (site.station(f"line2/{box}") / "station.pem" for box in ("box3", "box4"))
    site.start()
    box = peers.enter_context(closing(Peer(site, ours, "ssn-plant1-line2-box3")))
    peers.enter_context(closing(Peer(site, others, "ssn-plant1-line2-box3")))
    peers.enter_context(closing(Peer(site, others, BOX_3)))
    assert box.publish(f"{ROOT_3}/status") == TAKEN
    assert box.closed.empty()


def test_a_revoked_certificate_is_refused_and_cut_off_while_the_others_go_on(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    stolen = site.station("line2/box4") / "station.pem"
    kept = stolen.with_name("stolen.pem")
    kept.write_bytes(stolen.read_bytes())
    folder = site.station("line2/box3")
    settings = _settings(site, folder).broker
    site.start()
    line = peers.enter_context(closing(Line(site.root, settings)))
    line.connected()
    thief = peers.enter_context(closing(Peer(site, kept)))
    with site.changing() as provisioner:
        assert provisioner.revoke(BOX_4, _now(), older=False) == 1
    site.reload()
    with pytest.raises((OSError, ConnectionError)):
        Peer(site, kept)
    assert thief.closed.empty()  # a line that stands is cut by a restart alone
    site.stop()
    site.start()
    assert thief.closed.get(timeout=10)
    wait_until(lambda: "certificate verify failed" in site.log(), 10, "the thief is taken")
    line.connected(2)
    assert line.acknowledged(line.publish(f"{ROOT_3}/top/verdict", "{}")) is None
    again = site.station("line2/box4") / "station.pem"
    box = peers.enter_context(closing(Peer(site, again)))
    assert box.publish(f"{ROOT_4}/status") == TAKEN


def test_a_renewed_certificate_and_the_old_one_are_taken_until_the_older_are_revoked(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    new = site.station("line2/box3") / "station.pem"
    old = new.with_name("old.pem")
    old.write_bytes(new.read_bytes())
    site.start()
    stands = peers.enter_context(closing(Peer(site, site.client("wall", "dashboard"))))
    with site.changing() as provisioner:
        provisioner.renew(BOX_3, _now())
        provisioner.renew("broker", _now())
    site.reload()
    for pem in (old, new):
        with closing(Peer(site, pem)) as box:
            assert box.publish(f"{ROOT_3}/status") == TAKEN
            assert box.broker_serial() != stands.broker_serial()
    assert stands.closed.empty()
    with site.changing() as provisioner:
        assert provisioner.revoke(BOX_3, _now(), older=True) == 1
    site.reload()
    with pytest.raises((OSError, ConnectionError)):
        Peer(site, old)
    box = peers.enter_context(closing(Peer(site, new)))
    assert box.publish(f"{ROOT_3}/status") == TAKEN


def test_a_new_authority_takes_over_beside_the_old_one(
    site: ProvisionedSite, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    successor = ProvisionedSite.made(tmp_path / "new")
    old, gone, new = (
        made.station(f"line2/{box}") / "station.pem"
        for made, box in ((site, "box3"), (site, "box4"), (successor, "box3"))
    )
    with site.changing() as provisioner:
        provisioner.revoke(BOX_4, _now(), older=False)
    for name in ("ca.pem", "crl.pem"):  # as docs/broker.md says
        both = [made.folder / "broker" / name for made in (site, successor)]
        both[0].write_bytes(b"".join(file.read_bytes() for file in both))
    (site.folder / "ca.pem").write_bytes((site.folder / "broker" / "ca.pem").read_bytes())
    site.start()
    for makes in (site, successor):
        server = makes.folder / "broker" / "server.pem"
        (site.folder / "broker" / "server.pem").write_bytes(server.read_bytes())
        site.reload()
        for pem in (old, new):
            with closing(Peer(site, pem)) as box:
                assert box.publish(f"{ROOT_3}/status") == TAKEN
        with pytest.raises((OSError, ConnectionError)):
            Peer(site, gone)


def test_without_a_certificate_of_this_authority_or_by_tls_1_2_nobody_is_taken(
    site: ProvisionedSite, tmp_path: Path
) -> None:
    pem = site.station("line2/box3") / "station.pem"
    (tmp_path / "other").mkdir()
    foreign = ProvisionedSite.made(tmp_path / "other").station("line2/box3") / "station.pem"
    site.start()
    for refused in (None, foreign):
        with pytest.raises((OSError, ConnectionError)):
            Peer(site, refused)
    assert "peer did not return a certificate" in site.log()
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        Peer(site, pem, newest_tls=ssl.TLSVersion.TLSv1_2)


def test_a_stations_certificate_does_not_serve_as_a_brokers(site: ProvisionedSite) -> None:
    pem = site.station("line2/box3") / "station.pem"
    (site.folder / "broker" / "server.pem").write_bytes(pem.read_bytes())
    site.start()
    with pytest.raises(ssl.SSLError, match="purpose"):
        Peer(site, pem)


def test_what_waits_for_a_subscriber_that_is_away_is_all_there_also_after_a_restart(
    site: ProvisionedSite, peers: ExitStack
) -> None:
    pem, mes = site.station("line2/box3") / "station.pem", site.client("mes", "controller")
    site.start()
    with closing(Peer(site, mes, session_s=3600)) as reader:
        reader.subscribe("ssn/#")
    line = peers.enter_context(closing(Line(site.root, _settings(site, pem.parent).broker)))
    line.connected()
    sent, payload = 0, "x" * 1000
    for sent in range(OFFLINE_MESSAGES):
        if sent % 100 == 0:
            last = line.publish(f"{ROOT_3}/top/verdict", f"{sent} {payload}")
            line.acknowledged(last)
        else:
            wait_until(lambda: line.link.room > 0 or bool(line.link.events()), 10, "no room")
            line.publish(f"{ROOT_3}/top/verdict", f"{sent} {payload}")
    line.acknowledged(line.publish(f"{ROOT_3}/top/verdict", f"{OFFLINE_MESSAGES} end"))
    site.stop()
    site.start()
    back = peers.enter_context(closing(Peer(site, mes, session_s=3600)))
    numbers = [int(back.next()[1].split()[0]) for _ in range(OFFLINE_MESSAGES + 1)]
    assert numbers == list(range(OFFLINE_MESSAGES + 1))


def test_an_agent_with_its_provisioned_settings_delivers_verdicts_and_says_when_they_end(
    site: ProvisionedSite, peers: ExitStack, tmp_path: Path
) -> None:
    folder, mes = site.station("line2/box3"), site.client("mes", "controller")
    draw_parts(tmp_path / "parts", 5)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    source = {"kind": "folder", "path": tmp_path / "parts", "fps": 60}
    site.start()
    reader = peers.enter_context(closing(Peer(site, mes)))
    reader.subscribe("ssn/#")
    camera = {"bundle": bundle, "source": source, "deadline_ms": 10_000}
    with station(tmp_path, site.port, **camera) as agent:
        given = _settings(site, folder)
        agent.top = {
            "station": dict(given.station),
            "broker": given.broker.model_dump(exclude_none=True),
        }
        agent.run_once()
    found: dict[str, list[bytes]] = {}
    while not reader.messages.empty():
        topic, payload = reader.next()
        found.setdefault(topic.removeprefix(ROOT_3), []).append(payload)
    verdicts = [Verdict.model_validate_json(text) for text in found["/left/verdict"]]
    assert sorted({verdict.sequence for verdict in verdicts}) == [1, 2, 3, 4, 5]
    ends = json.loads(found["/metrics"][0])["broker_certificates"]
    assert ends["own"] == ends["broker"] < ends["authority"]


def _settings(site: ProvisionedSite, folder: Path) -> Settings:
    """Read the lines that came with the certificate, but for the port and the place."""
    file = site.root / "agent.toml"
    text = (folder / "broker.toml").read_text().replace("/etc/ssn-agent/broker", str(folder))
    file.write_text(text + "[cameras.left.source]\nkind = 'line'\n")
    return load_settings(file, [f"broker.port={site.port}"])


def _now() -> datetime:
    return datetime.now(timezone.utc)
