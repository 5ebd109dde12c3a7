"""May the service read and write what it has to, and nobody else what is secret?"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ssn_agent.doctor.disk import is_read_only
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, warning
from ssn_agent.errors import BrokerError, SettingsError
from ssn_agent.labels.token import check as check_token
from ssn_agent.publish.certificates import load

MADE_BY_SYSTEMD = (Path("/var/lib/ssn-agent"), Path("/run/ssn-agent"))
"""The unit's StateDirectory and RuntimeDirectory."""


def folders(subject: Subject) -> Iterator[Finding]:
    """Folders that the agent writes to."""
    settings, who = subject.settings, subject.account.name
    for key in ("data_dir", "runtime_dir"):
        folder: Path = getattr(settings, key)
        own = f"chown -R {who}: {folder}"
        try:
            is_there = folder.exists()
        except PermissionError:
            yield fault(
                f"{key} {folder}: {who} may not even get there", f"chmod a+x its parents; {own}"
            )
            continue
        if is_there:
            # A disk that nobody can write to is the disk's matter.
            if is_read_only(folder) or _may(folder, os.R_OK | os.W_OK | os.X_OK):
                yield ok(f"{key} {folder}: {who} may use it")
            else:
                yield fault(f"{key} {folder}: {who} may not write there", own)
        elif folder in MADE_BY_SYSTEMD or _may(_nearest(folder), os.W_OK | os.X_OK):
            yield ok(f"{key} {folder}: is not there yet; the first start makes it")
        else:
            yield fault(f"{key} {folder}: is not there, and {who} may not make it", own)


def settings_file(subject: Subject) -> Iterator[Finding]:
    """The settings file: read by the service, and by nobody else where it holds a password."""
    path, who = subject.config, subject.account.name
    if not _may(path, os.R_OK):
        do = f"chown root:{who} {path}; chmod 0640 {path}"
        yield fault(f"{path}: {who} may not read it, so the service does not start", do)
    elif path.stat().st_mode & stat.S_IROTH and secrets(subject):
        yield warning(f"{path}: holds a password, and everybody may read it", f"chmod 0640 {path}")
    else:
        yield ok(f"{path}: {who} may read it")


def tls_files(subject: Subject) -> Iterator[Finding]:
    """Certificates and key of the line to the broker."""
    broker = subject.settings.broker
    if not broker.tls:
        yield ok("none: the broker is spoken to without TLS")
        return
    try:
        load(broker)
    except BrokerError as error:
        yield fault(str(error), f"have {subject.account.name} read them; docs/operations.md")
        return
    key = broker.key_file
    if key is not None and key.stat().st_mode & stat.S_IRWXO:
        mode = stat.S_IMODE(key.stat().st_mode)
        do = f"chmod 0640 {key}; if others use this machine, have a new key and certificate made"
        yield fault(f"{key}: the key is everybody's to read (mode {mode:04o})", do)
    else:
        yield ok("certificates and key load")


def http_token(subject: Subject) -> Iterator[Finding]:
    """The token of the API for labels."""
    http = subject.settings.http
    if http.port is None:
        yield ok("the API is not served (http.port)")
        return
    try:
        check_token(http)
    except SettingsError as error:
        problem, _, do = str(error).rpartition("; ")
        yield fault(problem, do)
    else:
        yield ok(f"the API is served at {http.host}:{http.port}, and its token is sound")


def secrets(subject: Subject) -> list[str]:
    """Return the passwords that the settings hold."""
    held = [subject.settings.broker.password]
    held += [getattr(c.source, "password", None) for c in subject.settings.cameras.values()]
    return [secret.get_secret_value() for secret in held if secret is not None]


def _nearest(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)
