"""When certificates end: said in time, for what ends unseen stops every station at once.

Python's `ssl` tells the end of a peer's certificate alone; that of a file is read here out of its
DER (RFC 5280, 4.1), as far as it is needed. OpenSSL has loaded the same files before.
"""

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ssn_agent.errors import BrokerError
from ssn_agent.publish.settings import BrokerSettings
from ssn_contract.metrics import BrokerCertificates

NOTICE = timedelta(days=30)
_SEQUENCE, _UTC_TIME, _EXPLICIT_0 = 0x30, 0x17, 0xA0
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def ends(settings: BrokerSettings) -> BrokerCertificates:
    """Return when the files of `[broker]` end; of several in one, the first to end.

    Raises BrokerError.
    """
    return BrokerCertificates(
        own=_first_end(settings.cert_file, "cert_file"),
        authority=_first_end(settings.ca_file, "ca_file"),
        broker=None,
    )


def expiring(found: BrokerCertificates | None, now: datetime) -> list[str]:
    """Say which certificates end within 30 days, or have ended, and what to do."""
    if found is None:
        return []
    named = (
        ("our certificate", found.own, "renew it"),
        ("the authority's certificate", found.authority, "replace it"),
        ("the broker's certificate", found.broker, "renew it"),
    )
    return [
        f"broker: {what} {said}; {do} (docs/broker.md)"
        for what, end, do in named
        if end is not None and (said := words(end, now))
    ]


def words(end: datetime, now: datetime) -> str | None:
    """Say that something ends soon, or has ended; None: it does neither."""
    if now >= end:
        return f"ended on {end:%Y-%m-%d}"
    if end - now > NOTICE:
        return None
    days = (end - now).days
    return f"ends on {end:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}"


def peer_end(secured: ssl.SSLSocket) -> datetime | None:
    """Return when the certificate of the other side ends."""
    end = (secured.getpeercert() or {}).get("notAfter")
    return _utc(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else None


def _first_end(file: Path | None, key: str) -> datetime | None:
    if file is None:
        return None
    try:
        found = [not_after(der) for der in _certificates(file.read_text("ascii", "replace"))]
    except OSError as error:
        msg = f"broker.{key}: {file}: cannot be read ({error.strerror}); check its permissions"
        raise BrokerError(msg) from error
    except (ValueError, IndexError) as error:
        msg = f"broker.{key}: {file}: holds a damaged certificate ({error}); replace it"
        raise BrokerError(msg) from error
    return min(found, default=None)


def _certificates(text: str) -> Iterator[bytes]:
    for part in text.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        yield ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{end}\n")


def not_after(der: bytes) -> datetime:
    """Return the end of a certificate's validity. Raises ValueError or IndexError.

    Certificate and tbsCertificate are sequences; of the latter the fields are version (where there
    is one), serial number, signature algorithm, issuer, and validity: not before, not after.
    """
    fields = _elements(_expect(der, 0, _SEQUENCE))
    fields = _elements(fields[0][1])
    at = 4 if fields[0][0] == _EXPLICIT_0 else 3
    kind, text = _elements(fields[at][1])[1]
    digits = text.decode("ascii")
    if kind == _UTC_TIME:  # years from 1950 to 2049 in two digits
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _expect(der: bytes, at: int, kind: int) -> bytes:
    found, content, _ = _element(der, at)
    if found != kind:
        msg = f"not a certificate: {found:#x} in place of {kind:#x}"
        raise ValueError(msg)
    return content


def _elements(content: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(content):
        kind, body, at = _element(content, at)
        found.append((kind, body))
    return found


def _element(der: bytes, at: int) -> tuple[int, bytes, int]:
    """Return tag, content, and where the next one begins."""
    kind, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(der[at : at + count], "big"), at + count
    if at + length > len(der):
        raise ValueError("cut off")
    return kind, der[at : at + length], at + length


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
