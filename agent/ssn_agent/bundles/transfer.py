"""Fetching a channel's files over HTTP, from a server that may be slow, endless or hostile.

tuf's own fetcher (urllib3) bounds the wait for one more byte, so that a byte now and then holds it
for ever; it follows redirects, and keeps a whole bundle in /tmp. This one goes by `rules.Pace` from
the attempt to connect to the last byte, takes the file from nowhere else, and keeps it beside its
place.
"""

import contextlib
import http.client
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

from ssn_agent import __version__
from ssn_agent.bundles.rules import Pace

CHUNK_BYTES = 2**16
TICK_S = 0.1
HEADERS = {
    "User-Agent": f"ssn-agent/{__version__}",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class Transfer(FetcherInterface):
    """Fetches files one after another; all together within `limit_s`."""

    def __init__(
        self, folder: Path, timeout_s: float, min_bytes_per_s: float, limit_s: float
    ) -> None:
        """Keep what is under way in `folder`, without a name there."""
        self._folder = folder
        self._timeout_s = timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        self._ends_at = time.monotonic() + limit_s

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Yield the file's content, at most so many bytes. Raises DownloadError."""
        received = 0
        with tempfile.TemporaryFile(dir=self._folder) as file:
            with closing(self._fetch(url)) as chunks:
                for chunk in chunks:
                    received += len(chunk)
                    if received > max_length:
                        msg = f"{url}: more than the {max_length} bytes that it may have"
                        raise DownloadLengthMismatchError(msg)
                    file.write(chunk)
            file.seek(0)
            yield file

    def _fetch(self, url: str) -> Generator[bytes, None, None]:
        now = time.monotonic()
        pace = Pace(self._timeout_s, self._min_bytes_per_s, self._ends_at, now)
        if problem := pace.problem(now, 0):
            raise SlowRetrievalError(f"{url}: {problem}")
        connection = _connection(url, min(self._timeout_s, self._ends_at - now))
        watch = _Watch(pace)
        try:
            with closing(connection):
                connection.connect()
                with watch.over(connection.sock):
                    yield from _content(connection, url, watch.count)
            watch.check()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if watch.problem or isinstance(error, TimeoutError):
                problem = watch.problem or f"no answer within {self._timeout_s:g} s"
                raise SlowRetrievalError(f"{url}: {problem}") from error
            raise DownloadError(f"{url}: {error or type(error).__name__}") from error


class _Watch:
    """Ends a transfer by the rule, from a thread: a read that waits does not look at the clock."""

    def __init__(self, pace: Pace) -> None:
        self.problem: str | None = None
        self._pace = pace
        self._received = 0
        self._done = threading.Event()

    def count(self, size: int) -> None:
        """Note that so many bytes came."""
        self._received += size

    def check(self) -> None:
        """Raise OSError where the transfer was ended, which can look like the file's end."""
        if self.problem:
            raise TimeoutError

    @contextmanager
    def over(self, sock: socket.socket) -> Iterator[None]:
        """Watch a connection."""
        thread = threading.Thread(target=self._run, args=(sock,), name="pull-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _run(self, sock: socket.socket) -> None:
        while not self._done.wait(TICK_S):
            self.problem = self._pace.problem(time.monotonic(), self._received)
            if self.problem:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    # Of the class above: an SSLSocket's own would first unwrap what is being read.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                return


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=timeout_s)


def _content(
    connection: http.client.HTTPConnection, url: str, count: Callable[[int], None]
) -> Iterator[bytes]:
    connection.request("GET", urlsplit(url).path, headers=HEADERS)
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        msg = f"{url}: the server answers {response.status}"
        raise DownloadHTTPError(msg, response.status)
    while chunk := response.read1(CHUNK_BYTES):
        count(len(chunk))
        yield chunk
