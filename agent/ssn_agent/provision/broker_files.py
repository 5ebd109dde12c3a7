"""What is not a certificate: the broker's rights, and what a station's settings say of it."""

from collections.abc import Iterable
from pathlib import Path

from ssn_agent.provision.register import Entry, Site
from ssn_contract.topics import PREFIX, Station

CONFIGURATION = Path(__file__).with_name("mosquitto.conf")
PORT = 8883
OUTWARD = ("+/verdict", "+/heatmap/+", "+/model", "+/challenge", "status", "metrics")
"""What a station publishes, below its own topics."""
INWARD = ("+/trigger", "label", "command")
CHANNEL_LEVEL = "channel"
"""In the place of a line: where the publisher announces bundles. No line may be called so."""
STATION_FOLDER = "/etc/ssn-agent/broker"


def rights(site: Site) -> str:
    """Return mosquitto's ACL.

    A station's user name is its place in the topics, so one pattern gives each its own; it is
    changed for clients alone. Their names have a `:`, which no level of ours has: read as a
    station's, one leads nowhere.
    """
    channel = f"{PREFIX}/{site.name}/{CHANNEL_LEVEL}/#"
    lines = [f"# The rights at the broker of {site.name}. Made by ssn-agent provision."]
    lines += ["# A station, site/line/station: what it publishes, what is sent to it."]
    lines += [f"pattern write {PREFIX}/%u/{topic}" for topic in OUTWARD]
    lines += [f"pattern read {PREFIX}/%u/{topic}" for topic in INWARD]
    lines += ["# Everybody: mosquitto warns that the pattern names no user, as it is meant."]
    lines += [f"pattern read {channel}"]
    for entry in site.in_force():
        if entry.is_client:
            lines += ["", f"user {entry.common_name}"]
            lines += [f"topic {right}" for right in _client(site, entry, channel)]
    return "\n".join(lines) + "\n"


def station_settings(site: Site, station: Station) -> str:
    """Return the lines for a station's settings file."""
    folder = STATION_FOLDER
    return f"""\
# For /etc/ssn-agent/agent.toml; the files of this folder go to {folder}.
[station]
site = "{station.site}"
line = "{station.line}"
station = "{station.station}"

[broker]
host = "{site.hosts[0]}"
port = {PORT}
tls = true
ca_file = "{folder}/ca.pem"
cert_file = "{folder}/station.pem"
key_file = "{folder}/station.pem"
"""


def _client(site: Site, entry: Entry, channel: str) -> Iterable[str]:
    if entry.role == "publisher":
        yield f"write {channel}"
        return
    stations = f"{PREFIX}/{site.name}/{entry.line or '+'}/+"
    for topic in OUTWARD:
        yield f"read {stations}/{topic}"
    if entry.role == "controller":
        yield f"write {stations}/+/trigger"
        yield f"write {stations}/label"
