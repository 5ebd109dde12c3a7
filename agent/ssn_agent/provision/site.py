"""A site's folder, and what is done in it: certificates made, renewed and revoked.

    ca.key          the authority's key, encrypted
    ca.pem          its certificate
    register.json   what it has issued and revoked
    broker/         to copy to the broker's machine
    stations/LINE/STATION/, clients/NAME/
                    to copy to theirs, and to delete here

Each change enters the register first. A command that is killed leaves whole files; what it did not
come to, the next change makes up for: rights and revocations are written anew from the register.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.errors import ProvisionError
from ssn_agent.provision.authority import MAX_NAME, Authority, general_name
from ssn_agent.provision.broker_files import (
    CHANNEL_LEVEL,
    CONFIGURATION,
    rights,
    station_settings,
)
from ssn_agent.provision.register import (
    ClientRole,
    Entry,
    Holder,
    Role,
    Site,
    read_register,
    write_register,
)
from ssn_contract.manifest import Name
from ssn_contract.topics import Station

KEY, CERTIFICATE, LOCK = "ca.key", "ca.pem", ".lock"
BROKER = "broker"
_NAMES: TypeAdapter[str] = TypeAdapter(Name)
_NAME_HELP = "lower-case letters, digits, - and _, at most 64, a letter or digit first"
Passphrase = Callable[[], bytes]


class Provisioner:
    """A site that is locked for changes. Methods raise ProvisionError, PassphraseError."""

    def __init__(self, folder: Path, site: Site, passphrase: Passphrase) -> None:
        self._folder = folder
        self.site = site
        self._passphrase = passphrase

    def station(self, path: str, now: datetime) -> Path:
        """Make a station's files; return their folder."""
        station = _station(path, self.site)
        self._must_be_new(path)
        return self._issue(Holder(name=str(station), role="station"), now)

    def client(self, name: str, role: ClientRole, line: str | None, now: datetime) -> Path:
        """Make the files of a client with a role, at one line or at all; return their folder."""
        _check_name(name, "a client's name")
        if name == BROKER:
            msg = f"{name}: is the broker's own name; take another"
            raise ProvisionError(msg)
        if line is not None:
            _check_name(line, "--line")
            if role == "publisher":
                raise ProvisionError(
                    "--line: a publisher announces to the whole site; leave it out"
                )
        holder = Holder(name=name, role=role, line=line)
        if len(holder.common_name) > MAX_NAME:
            msg = f"{holder.common_name}: longer than the {MAX_NAME} characters of a certificate"
            raise ProvisionError(f"{msg}'s name; take a shorter one")
        self._must_be_new(name)
        return self._issue(holder, now)

    def renew(self, name: str, now: datetime) -> Path:
        """Make another key and certificate in a name; those of before stay valid."""
        return self._issue(self._entries(name)[-1], now)

    def revoke(self, name: str, now: datetime, *, older: bool) -> int:
        """Revoke all certificates of a name, or those before the newest; return how many."""
        if name == BROKER:
            msg = (
                f"{name}: stations know no revoked brokers; where its key is in wrong hands, make "
                "a new authority (docs/broker.md)"
            )
            raise ProvisionError(msg)
        if not any(entry.name == name for entry in self.site.issued):
            self._entries(name)
        entries = self.site.entries(name)
        serials = {entry.serial for entry in (entries[:-1] if older else entries)}
        authority = self._open()
        self._change(self.site.with_revoked(serials, now), authority, now)
        return len(serials)

    def _entries(self, name: str) -> list[Entry]:
        found = self.site.entries(name)
        if not found:
            known = sorted({e.name for e in self.site.in_force()})
            msg = f"{name}: has no certificate in force; those that have: {', '.join(known)}"
            raise ProvisionError(msg)
        return found

    def _must_be_new(self, name: str) -> None:
        if self.site.entries(name):
            msg = f"{name}: has a certificate already; `provision renew` it, or `revoke` it first"
            raise ProvisionError(msg)

    def _open(self) -> Authority:
        key, certificate = self._folder / KEY, self._folder / CERTIFICATE
        try:
            contents = certificate.read_bytes(), key.read_bytes()
        except OSError as error:
            msg = f"{error.filename}: cannot be read ({error.strerror}); put its backup back"
            raise ProvisionError(msg) from error
        return Authority.open(*contents, self._passphrase(), str(key))

    def _issue(self, wanted: Holder, now: datetime) -> Path:
        authority = self._open()
        hosts = self.site.hosts if wanted.role == BROKER else ()
        issued = authority.issue(wanted.common_name, now, hosts)
        entry = Entry(
            name=wanted.name,
            role=wanted.role,
            line=wanted.line,
            serial=issued.serial,
            expires_at=issued.expires_at,
        )
        self._change(self.site.with_entry(entry), authority, now)
        folder, file = _place(entry.name, entry.role)
        files = {"ca.pem": authority.pem, file: issued.pem}
        if entry.role == "station":
            settings = station_settings(self.site, _station(entry.name, self.site))
            files["broker.toml"] = settings.encode()
        _write(self._folder / folder, files)
        return self._folder / folder

    def _change(self, site: Site, authority: Authority, now: datetime) -> None:
        try:
            write_register(self._folder, site)
        except OSError as error:
            raise _unwritten(self._folder, error) from error
        self.site = site
        _write(self._folder / BROKER, _broker_files(site, authority, now))


def make_site(
    folder: Path, name: str, hosts: list[str], passphrase: Passphrase, now: datetime
) -> None:
    """Make a site's folder, whole or not at all. Raises ProvisionError where there is one."""
    _check_name(name, "--site")
    for host in hosts:
        general_name(host)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder}: is there already, and is never overwritten; name a new folder"
        raise ProvisionError(msg)
    authority, secret = Authority.make(name, now), passphrase()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _write(made, {CERTIFICATE: authority.pem, KEY: authority.key_pem(secret)})
            provisioner = Provisioner(made, Site(name=name, hosts=hosts), lambda: secret)
            provisioner._issue(Holder(name=BROKER, role="broker"), now)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise _unwritten(folder, error) from error


@contextmanager
def changing(folder: Path, passphrase: Passphrase) -> Iterator[Provisioner]:
    """Lock a site's folder for changes. Raises ProvisionError."""
    site = read_register(folder)
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritten(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        site = read_register(folder)
        yield Provisioner(folder, site, passphrase)
    except BlockingIOError as error:
        msg = f"{folder}: another command is changing it; wait for its end"
        raise ProvisionError(msg) from error
    finally:
        os.close(lock)


def _broker_files(site: Site, authority: Authority, now: datetime) -> dict[str, bytes]:
    return {
        "ca.pem": authority.pem,
        "crl.pem": authority.revocation_list(site.revoked(), now),
        "acl": rights(site).encode(),
        "mosquitto.conf": CONFIGURATION.read_bytes(),
    }


def _place(name: str, role: Role) -> tuple[Path, str]:
    """Return the folder and the file of a name's certificate."""
    if role == BROKER:
        return Path(BROKER), "server.pem"
    if role == "station":
        return Path("stations", *name.split("/")[1:]), "station.pem"
    return Path("clients", name), "client.pem"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomically(folder / name, data, 0o600)
    except OSError as error:
        raise _unwritten(folder, error) from error


def _unwritten(folder: Path, error: OSError) -> ProvisionError:
    return ProvisionError(
        f"{folder}: cannot be written ({error.strerror}); check the folder and its space"
    )


def _check_name(name: str, what: str) -> None:
    try:
        _NAMES.validate_python(name)
    except ValidationError as error:
        msg = f"{name!r}: cannot be {what}: {_NAME_HELP}"
        raise ProvisionError(msg) from error


def _station(path: str, site: Site) -> Station:
    levels = path.split("/")
    if len(levels) != 3 or levels[0] != site.name:
        msg = f"{path}: write it as {site.name}/LINE/STATION: this is the authority of {site.name}"
        raise ProvisionError(msg)
    for level in levels:
        _check_name(level, "a level of a station's name")
    if levels[1] == CHANNEL_LEVEL:
        msg = f"{path}: bundles are announced under {CHANNEL_LEVEL}; give the line another name"
        raise ProvisionError(msg)
    if len(path) > MAX_NAME:
        msg = f"{path}: longer than {MAX_NAME} characters, which a certificate's name may have"
        raise ProvisionError(msg)
    return Station(site=levels[0], line=levels[1], station=levels[2])
