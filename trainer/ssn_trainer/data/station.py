"""A station's HTTP API, asked for what its ledger holds: the one module that speaks it.

The server may be slow, endless or hostile: an answer has a size and a time, is what the contract
says, and comes from nowhere else. The token stands in a file and in one header.
"""

import os
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.util import Retry, Timeout

from ssn_agent import __version__
from ssn_contract.http import LedgerEntry, LedgerEntryInFull, LedgerPage, Problem
from ssn_trainer.errors import StationError, UsageError

MAX_IMAGE_BYTES = 64 * 2**20
MAX_ANSWER_BYTES = 8 * 2**20
PAGE = 500
"""Entries that are asked for at once: as many as the API gives."""
ANSWER_S = 120.0
"""From a request to the last byte of its answer."""
_WAIT = Timeout(connect=10, read=30)
_TRIES = 10
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_BUSY_S = 1.0
"""What the API asks for; it is not believed a longer time."""
_CHUNK_BYTES = 2**16
_PNG = b"\x89PNG\r\n\x1a\n"
_OURS = {"labelled", "limit", "before"}
"""What we ask ourselves."""

_Model = TypeVar("_Model", bound=BaseModel)


def is_url(data: str) -> bool:
    """Say whether DATA names a station's API, and no folder or file."""
    return data.lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Station:
    """A station's API, and which of its verdicts are wanted."""

    url: str
    """Scheme, host, port, and the path of a reverse proxy."""
    wanted: tuple[tuple[str, str], ...]
    """What the URL asked for, as `camera=left`: filters of `GET /v1/verdicts`."""
    _token: str = field(repr=False)
    _tls: ssl.SSLContext = field(repr=False)

    @classmethod
    def of(cls, url: str, token_file: Path | None, ca_file: Path | None) -> "Station":
        """Take a URL, the file with the token, and the CA that is believed besides the system's.

        Raises UsageError.
        """
        if token_file is None:
            msg = f"{url}: a station wants its token; give --token-file FILE (its http.token_file)"
            raise UsageError(msg)
        parts, wanted = _parse(url)
        return cls(
            f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}",
            tuple(wanted),
            _read_token(token_file),
            _context(ca_file),
        )

    @property
    def is_overheard(self) -> bool:
        """Say whether token and pictures cross a network as they are."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}

    def labelled(self) -> Iterator[LedgerEntry]:
        """Yield the verdicts that somebody has labelled, the newest first. Raises StationError."""
        before: int | None = None
        while True:
            asked = [*self.wanted, ("labelled", "true"), ("limit", str(PAGE))]
            asked += [("before", str(before))] if before is not None else []
            page = self._read(f"/v1/verdicts?{urlencode(asked)}", LedgerPage)
            if page is None:
                raise StationError(f"{self.url}: has no /v1/verdicts; give the URL of its API")
            yield from page.entries
            if page.next is None:
                return
            if before is not None and page.next >= before:
                raise StationError(f"{self.url}: its pages do not come to an end; update the agent")
            before = page.next

    def in_full(self, entry: LedgerEntry) -> LedgerEntryInFull | None:
        """Return a verdict with its labels; None: the ledger does not hold it any more.

        Raises StationError.
        """
        return self._read(_path(entry), LedgerEntryInFull)

    def image(self, entry: LedgerEntry) -> bytes | None:
        """Return a verdict's picture, a PNG; None: it is not kept any more. Raises StationError."""
        path = f"{_path(entry)}/image"
        data = self._ask(path, MAX_IMAGE_BYTES)
        if data is not None and not data.startswith(_PNG):
            raise StationError(f"{self.url}{path}: is no PNG; update the agent")
        return data

    def _read(self, path: str, model: type[_Model]) -> _Model | None:
        data = self._ask(path, MAX_ANSWER_BYTES)
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            msg = f"{self.url}{path}: is not what the contract says: {where}: {first['msg']}"
            raise StationError(f"{msg}; use an agent and a trainer of one version") from error

    def _ask(self, path: str, limit: int) -> bytes | None:
        """Return the body of an answer, None for 404. Raises StationError."""
        for _ in range(_TRIES):
            status, body = self._get(self.url + path, limit)
            if status == HTTPStatus.OK:
                return body
            if status == HTTPStatus.NOT_FOUND:
                return None
            if status not in _BUSY:
                break
            time.sleep(_BUSY_S)
        raise StationError(f"{self.url}{path}: the station answers {status}: {_problem(body)}")

    def _get(self, url: str, limit: int) -> tuple[int, bytes]:
        ends_at = time.monotonic() + ANSWER_S
        body = bytearray()
        retry = Retry(2, redirect=0, status=0, backoff_factor=0.2, respect_retry_after_header=False)
        headers = {
            "Authorization": f"Bearer {self._token}",
            "User-Agent": f"ssn-trainer/{__version__}",
            "Accept-Encoding": "identity",
        }
        try:
            with (
                # The station ends each connection with its request.
                urllib3.PoolManager(ssl_context=self._tls, timeout=_WAIT, retries=retry) as pool,
                pool.request(
                    "GET",
                    url,
                    headers=headers,
                    redirect=False,  # the token is for nobody else
                    preload_content=False,
                    decode_content=False,
                ) as answer,
            ):
                while chunk := answer.read1(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > limit:
                        raise StationError(f"{url}: more than the {limit} bytes that it may have")
                    if time.monotonic() > ends_at:
                        raise StationError(f"{url}: no end within {ANSWER_S:g} s; try again")
                return answer.status, bytes(body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            msg = f"{url}: cannot be fetched ({error}); check that the station runs, and its URL"
            raise StationError(msg) from error


def _path(entry: LedgerEntry) -> str:
    return f"/v1/verdicts/{entry.camera}/{entry.epoch}/{entry.sequence}"


def _problem(body: bytes) -> str:
    try:
        return Problem.model_validate_json(body).problem[:200]
    except ValidationError:
        return "it does not say why"


def _parse(url: str) -> tuple[SplitResult, list[tuple[str, str]]]:
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
        wanted = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UsageError(f"{url}: is no URL ({error}); give https://HOST:PORT") from error
    if not known or parts.fragment:
        raise UsageError(f"{url}: is no URL of a station; give https://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the URL holds a user's name: others can read it; use --token-file alone")
    if ours := sorted(_OURS & {name for name, _ in wanted}):
        msg = f"{url}: {', '.join(ours)} is asked by the trainer itself; remove it"
        raise UsageError(msg)
    return parts, wanted


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            value = file.read(513).strip()
    except OSError as error:
        raise UsageError(f"--token-file {path}: cannot be read ({error.strerror})") from error
    if mode & 0o077:
        msg = f"--token-file {path}: others may read it (mode {mode:04o}); chmod 0600"
        raise UsageError(msg)
    if not 0 < len(value) <= 512 or not all(0x21 <= byte <= 0x7E for byte in value):
        msg = f"--token-file {path}: holds no token; copy that of the station's http.token_file"
        raise UsageError(msg)
    return value.decode("ascii")


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # ssl's own among them
        msg = f"--ca-file {ca_file}: cannot be used ({error}); give a CA's certificate in PEM"
        raise UsageError(msg) from error
    return context
