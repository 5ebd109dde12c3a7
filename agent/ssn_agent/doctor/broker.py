"""Does the broker take us, and what does it allow?"""

from collections.abc import Iterator
from datetime import datetime, timezone
from uuid import uuid4

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning
from ssn_agent.errors import BrokerError
from ssn_agent.publish.certificates import load
from ssn_agent.publish.expiry import ends, expiring
from ssn_agent.publish.probe import probe

MIN_PACKET_BYTES = 16_384
"""A verdict with 16 defects takes some KB, a heatmap more."""
LOCAL = ("127.0.0.1", "localhost", "::1")


def broker(subject: Subject) -> Iterator[Finding]:
    """Connect as the agent does, under another name: an agent that runs keeps its connection."""
    settings = subject.settings.broker
    where = f"{settings.host}:{settings.port}"
    try:
        if settings.tls:
            load(settings)
    except BrokerError:
        yield unknown(f"{where}: not asked without certificates that load (TLS files)")
        return
    own = ends(settings)
    now = datetime.now(timezone.utc)
    if any(end is not None and end <= now for end in (own.own, own.authority)):
        yield from (fault(*_parted(said)) for said in expiring(own, now))
        return
    try:
        limits = probe(settings, f"ssn-doctor-{uuid4().hex[:12]}")
    except BrokerError as error:
        do = "docs/broker.md" if settings.tls else ""
        yield fault(str(error), do or f"does it run, and is {where} right ([broker])?")
        return
    packet = "any" if limits.packet_bytes is None else f"{limits.packet_bytes} bytes"
    said = f"{where}: takes us; packets of {packet}, {limits.inflight} at once"
    if limits.qos < 1 or not limits.retains:
        what = f"{where}: has no QoS 1, or keeps no message (retained)"
        yield fault(what, "allow both: without them verdicts are lost, and `status` says nothing")
    elif limits.packet_bytes is not None and limits.packet_bytes < MIN_PACKET_BYTES:
        yield warning(said, f"raise its limit of a packet to {MIN_PACKET_BYTES} bytes at least")
    elif not settings.tls and settings.host not in LOCAL:
        what = f"{said}; unencrypted, over the network"
        yield warning(what, "set broker.tls, and give the station a certificate")
    else:
        yield ok(said)
    known = own.model_copy(update={"broker": limits.certificate_end})
    yield from (warning(*_parted(said)) for said in expiring(known, now))


def _parted(alarm: str) -> tuple[str, str]:
    """Return what an alarm says, and what it says to do."""
    what, _, do = alarm.removeprefix("broker: ").partition("; ")
    return what, do
