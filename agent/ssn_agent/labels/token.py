"""The token of the HTTP API: a secret in a file that nobody but the agent may read."""

import hmac
import os
import stat
from importlib.util import find_spec
from pathlib import Path

from ssn_agent.errors import SettingsError
from ssn_agent.labels.settings import HttpSettings

MIN_CHARACTERS = 32
MAX_BYTES = 512
_HOW = "write one with `openssl rand -hex 32`, chmod 0600, as the agent's own user"


class Token:
    """The token in force."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises SettingsError."""
        self._path = path
        self._value = _read(path)

    def read_again(self) -> None:
        """Take up a token that was replaced. Raises SettingsError: the old one stays in force."""
        self._value = _read(self._path)

    def is_named_by(self, authorization: bytes) -> bool:
        """Say whether a request's `Authorization` names it; takes as long where it does not."""
        scheme, _, given = authorization.partition(b" ")
        is_same = hmac.compare_digest(given.strip(), self._value)
        return is_same and scheme.lower() == b"bearer"


def check(settings: HttpSettings) -> None:
    """Say what keeps the API from being served. Raises SettingsError."""
    if settings.port is None or settings.token_file is None:
        return
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        msg = f"http.port: {', '.join(missing)} is not installed; pip install 'ssn-inspect[http]'"
        raise SettingsError(msg)
    Token(settings.token_file)


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            _check_owner(path, found)
            value = file.read(MAX_BYTES + 1).strip()
    except OSError as error:
        msg = f"http.token_file: {path}: cannot be read ({error.strerror}); {_HOW}"
        raise SettingsError(msg) from error
    if not MIN_CHARACTERS <= len(value) <= MAX_BYTES or not _is_plain(value):
        msg = f"http.token_file: {path}: wants {MIN_CHARACTERS} to {MAX_BYTES} letters and digits"
        raise SettingsError(f"{msg}, without spaces; {_HOW}")
    return value


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        problem = "is no file"
    elif found.st_mode & 0o077:
        problem = f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})"
    elif os.geteuid() not in {0, found.st_uid}:
        problem = f"belongs to user {found.st_uid}, not to the agent's"
    else:
        return
    msg = f"http.token_file: {path}: {problem}; {_HOW}"
    raise SettingsError(msg)


def _is_plain(value: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in value)
