"""The site's authority: EC P-256 keys, X.509 certificates, the list of revoked ones.

P-256 because it is what clients on controllers know; mosquitto and OpenSSL take others, too.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ssn_agent.errors import ProvisionError

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
"""Of a broker, a station or a client: two years and a quarter to renew it in."""
BACKDATED = timedelta(days=1)
"""Clocks of stations and brokers may be behind: what is not valid yet is refused."""
_DNS_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
MAX_NAME = 64
"""Characters of a common name, by X.509."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in one PEM file: replaced at once, they never mismatch."""

    pem: bytes
    serial: str
    expires_at: datetime


class Authority:
    """Signs. Times are UTC and aware."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def make(cls, site: str, now: datetime) -> "Authority":
        """Make the key and a certificate that it signs itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        # Named by its time, too: beside the one that it replaces, clients must tell them apart.
        name = _name(f"SSN Inspect {now:%Y-%m-%d %H:%M} {site}"[:MAX_NAME])
        builder = _builder(name, name, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        return cls(builder.add_extension(_usage(signs=True), True).sign(key, SHA256()), key)

    @classmethod
    def open(cls, certificate: bytes, key: bytes, passphrase: bytes, where: str) -> "Authority":
        """Open what `pem` and `key_pem` gave; `where` names it. Raises ProvisionError."""
        try:
            opened = load_pem_private_key(key, passphrase)
            loaded = x509.load_pem_x509_certificate(certificate)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            msg = f"{where}: does not open: a wrong passphrase, or no encrypted PEM key"
            raise ProvisionError(msg) from error
        if not isinstance(opened, ec.EllipticCurvePrivateKey):
            msg = f"{where}: not the key that `provision site` made; put its backup back"
            raise ProvisionError(msg)
        if opened.public_key() != loaded.public_key():
            msg = f"{where}: not the key of the certificate beside it; put back both of one backup"
            raise ProvisionError(msg)
        return cls(loaded, opened)

    @property
    def pem(self) -> bytes:
        """Return its certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def key_pem(self, passphrase: bytes) -> bytes:
        """Return its key, encrypted."""
        return _key_pem(self._key, BestAvailableEncryption(passphrase))

    def issue(self, name: str, now: datetime, hosts: Sequence[str] = ()) -> Issued:
        """Return a new key and its certificate for a common name.

        With `hosts`, DNS names or addresses, a server's; else a client's: neither serves as the
        other. It ends with the authority's own at the latest. Raises ProvisionError where that has
        ended.
        """
        self._check_not_ended(now)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate
        end = min(now + timedelta(days=CERTIFICATE_DAYS), issuer.not_valid_after_utc)
        builder = _builder(_name(name), issuer.subject, key.public_key(), now, end)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_usage(signs=False), True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
            .add_extension(self._key_id(), False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
            builder = builder.add_extension(names, False)
        signed = builder.sign(self._key, SHA256())
        pem = _key_pem(key, NoEncryption()) + signed.public_bytes(Encoding.PEM)
        return Issued(pem, f"{signed.serial_number:x}", signed.not_valid_after_utc)

    def revocation_list(self, revoked: Iterable[tuple[str, datetime]], now: datetime) -> bytes:
        """Return the list of revoked serial numbers.

        It does not expire before the authority: a broker with an expired one refuses everybody,
        and it is carried there by hand. Raises ProvisionError where that has ended.
        """
        self._check_not_ended(now)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(int(now.timestamp())), False)
            .add_extension(self._key_id(), False)
        )
        for serial, at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(at).build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _check_not_ended(self, now: datetime) -> None:
        if (ended := self._certificate.not_valid_after_utc) <= now:
            msg = f"the authority ended on {ended:%Y-%m-%d}; make a new one (docs/broker.md)"
            raise ProvisionError(msg)

    def _key_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def general_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it. Raises ProvisionError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if _DNS_NAME.fullmatch(host):
            return x509.DNSName(host)
        msg = f"--broker-host {host!r}: neither an address nor a DNS name in ASCII"
        raise ProvisionError(msg) from None


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
