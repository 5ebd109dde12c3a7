"""A file server for a small site: a channel's metadata and bundles, to be read, and nothing else.

Whatever serves files can take its place (nginx, a share behind one): stations trust signatures, not
the server.
"""

import os
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from typing import Any

from ssn_trainer.errors import PublishError

_SERVED = re.compile(
    r"/(metadata/([0-9]+\.)?[a-z]+\.json|targets/[a-z]+/[0-9a-f]{64}\.[a-z0-9_-]+\.ssn)"
)
"""Every path that a station asks for; `..`, `%` and hidden files cannot be written in it."""
TIMEOUT_S = 30


class Server(ThreadingHTTPServer):
    """Serves a channel's folder; a thread a connection."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises PublishError."""
        self.folder = folder
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            msg = f"{host}:{port}: cannot be listened on ({error.strerror}); name another --port"
            raise PublishError(msg) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in a line that a reader went away; what else there is gets its traceback."""
        if isinstance(sys.exc_info()[1], OSError):
            sys.stderr.write(f"{client_address[0]}: went away\n")
        else:
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: Server

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        """Send a file's length."""
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        if not _SERVED.fullmatch(self.path):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            file = (self.server.folder / self.path[1:]).open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            if with_content:
                copyfileobj(file, self.wfile)
