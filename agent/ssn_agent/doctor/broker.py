"""Does the broker take us, and what does it allow?"""

from collections.abc import Iterator
from datetime import datetime, timezone

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning
from ssn_agent.errors import BrokerError
from ssn_agent.publish.certificates import load
from ssn_agent.publish.expiry import ends, expiring
from ssn_agent.publish.mqtt import client_id
from ssn_agent.publish.probe import Limits, probe, reach
from ssn_agent.publish.settings import BrokerSettings

MIN_PACKET_BYTES = 16_384
"""A verdict with 16 defects takes some KB, a heatmap more."""
LOCAL = ("127.0.0.1", "localhost", "::1")


def broker(subject: Subject) -> Iterator[Finding]:
    """Connect in the agent's place, where none runs; else only shake hands, and take its word."""
    settings = subject.settings.broker
    where = f"{settings.host}:{settings.port}"
    try:
        if settings.tls:
            load(settings)
    except BrokerError:
        yield unknown(f"{where}: not asked without certificates that load (TLS files)")
        return
    known, now = ends(settings), datetime.now(timezone.utc)
    if any(end is not None and end <= now for end in (known.own, known.authority)):
        yield from (fault(*_parted(said)) for said in expiring(known, now))
        return
    try:
        if subject.may_run:
            end = reach(settings)
            yield _as_the_agent_says(subject, where)
        else:
            limits = probe(settings, client_id(subject.settings.station))
            end = limits.certificate_end
            yield _judged(limits, where)
    except BrokerError as error:
        do = "docs/broker.md" if settings.tls else f"does it run, and is {where} right ([broker])?"
        yield fault(str(error), do)
        return
    known = known.model_copy(update={"broker": end})
    yield from (warning(*_parted(said)) for said in expiring(known, now))
    yield from _unencrypted(settings)


def _as_the_agent_says(subject: Subject, where: str) -> Finding:
    if subject.metrics is None:
        return ok(f"{where}: answers")
    if not subject.metrics.broker_connected:
        do = "journalctl -u ssn-agent -p warning says why"
        return fault(f"{where}: answers, and the agent is not connected", do)
    return ok(f"{where}: the agent is connected")


def _judged(limits: Limits, where: str) -> Finding:
    packet = "any size" if limits.packet_bytes is None else f"{limits.packet_bytes} bytes"
    said = f"{where}: takes us; packets of {packet}, {limits.inflight} at once"
    if limits.qos < 1 or not limits.retains:
        what = f"{where}: has no QoS 1, or keeps no message (retained)"
        return fault(what, "allow both: without them verdicts are lost, and `status` says nothing")
    if limits.packet_bytes is not None and limits.packet_bytes < MIN_PACKET_BYTES:
        return warning(said, f"raise its limit of a packet to {MIN_PACKET_BYTES} bytes at least")
    return ok(said)


def _unencrypted(settings: BrokerSettings) -> Iterator[Finding]:
    if not settings.tls and settings.host not in LOCAL:
        what = f"{settings.host}: is spoken to unencrypted, over the network"
        yield warning(what, "set broker.tls, and give the station a certificate (docs/broker.md)")


def _parted(alarm: str) -> tuple[str, str]:
    """Return what an alarm says, and what it says to do."""
    what, _, do = alarm.removeprefix("broker: ").partition("; ")
    return what, do
