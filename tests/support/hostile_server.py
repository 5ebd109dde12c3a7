"""A file server that does one file an ill turn.

`python -m support.hostile_server FOLDER PORT [CERTIFICATE KEY]`, the last two for TLS.
The first part of a path says what and to which: `KIND:ENDING/REST` serves REST, but for a file with
that ending.
"""

import ssl
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1]) if __name__ == "__main__" else Path()
PAUSE_S = 0.05


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        what, _, rest = self.path[1:].partition("/")
        kind, _, ending = what.partition(":")
        if rest.endswith(ending):
            ILL_TURNS[kind](self)
            return
        path = FOLDER / rest
        data = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- likewise
        del format, args


def endless(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(bytes(2**16))


def silent(handler: Handler) -> None:
    del handler
    time.sleep(60)


def trickling(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    drip(handler, b"{")


def trickling_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
    drip(handler, b"x")


def trickling_chunk_size(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(handler, b"0")


def redirecting(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n")


def garbled(handler: Handler) -> None:
    handler.wfile.write(b"\x1b[31m\xff\x00\r\n\r\n")
    handler.close_connection = True


def drip(handler: Handler, byte: bytes) -> None:
    while True:
        handler.wfile.write(byte)
        time.sleep(PAUSE_S)


ILL_TURNS: dict[str, Callable[[Handler], None]] = {
    "endless": endless,
    "silent": silent,
    "trickling": trickling,
    "trickling-headers": trickling_headers,
    "trickling-chunk-size": trickling_chunk_size,
    "redirecting": redirecting,
    "garbled": garbled,
}

if __name__ == "__main__":
    sys.stderr = sys.stdout  # readers that go away are no news
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    if sys.argv[3:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.serve_forever()
