"""A station's HTTP API as the contract has it, over a few pictures, and what it may do wrong."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from ssn_contract.http import LabelEntry, LedgerEntry, LedgerEntryInFull, LedgerPage
from support.certificates import Issued
from support.http_api import TOKEN

EPOCH = UUID("0b6c1d1e-8f0a-4b6e-9a53-5f0d4c1b2a39")
AT = "2026-05-04T06:00:00Z"
PAGE = 5
"""At most so many entries, however many are asked for."""


@dataclass
class Served:
    """A running API; `instead` answers a path by what it holds, in place of the route."""

    url: str
    entries: list[LedgerEntryInFull]
    images: dict[int, bytes]
    asked: list[str] = field(default_factory=list)
    """Every path, in order."""
    instead: Callable[[str], bytes | None] = lambda _: None

    def fetched_images(self) -> list[str]:
        return [path for path in self.asked if path.endswith("/image")]


def labelled(sequence: int, *said: tuple[str, str], **changes: Any) -> LedgerEntryInFull:
    """Return a verdict of camera `left` with labels, the newest first: (labeller, label)."""
    key = {"station": "site/line/box", "camera": "left", "epoch": EPOCH, "sequence": sequence}
    entry: dict[str, Any] = {
        **dict.fromkeys(LedgerEntry.model_fields),
        **key,
        "triggered_at": AT,
        "part_id": f"part-{sequence}",
        "verdict": "PASS",
        "score": 0.25,
        "threshold": 0.5,
        "defects": 0,
        "image_file": f"/var/lib/ssn-agent/images/left/{sequence}.png",
        "bundle_name": "plates",
        "bundle_version": "1.0.0",
        "settings_digest": "0" * 64,
        "decided_at": AT,
        "latency_ms": 20,
        "deadline_ms": 2000,
        "label": said[0][1] if said else None,
    }
    entry.update(changes)
    labels = [
        LabelEntry(
            **key,
            id=number,
            part_id=entry["part_id"],
            verdict=entry["verdict"],
            score=entry["score"],
            label=label,
            defect_type="blob" if label == "bad" else None,
            labeller=labeller,
            reason=None,
            labelled_at=AT,
            source="http",
        )
        for number, (labeller, label) in enumerate(said, start=1)
    ]
    return LedgerEntryInFull.model_validate({**entry, "regions": [], "labels": labels})


@contextmanager
def served(
    entries: list[LedgerEntryInFull], images: dict[int, bytes], tls: Issued | None = None
) -> Iterator[Served]:
    """Serve verdicts, and pictures by their numbers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            station.asked.append(self.path)
            raw = station.instead(self.path)
            if raw is not None:
                self.wfile.write(raw)
                self.close_connection = True
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._answer(401, b'{"problem": "name the token"}')
            else:
                self._answer(*_route(station, self.path))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status == 200 and self.path.endswith("/image"):  # in pieces, as the API does
                self.send_header("Transfer-Encoding", "chunked")
                pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
                body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in [*pieces, b""])
            else:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.cert, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    station = Served(f"{scheme}://127.0.0.1:{server.server_port}", entries, images)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield station
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _route(station: Served, path: str) -> tuple[int, bytes]:
    parts = urlsplit(path)
    if parts.path == "/v1/verdicts":
        return _page(station, dict(parse_qsl(parts.query)))
    pieces = parts.path.split("/")
    found = [e for e in station.entries if str(e.sequence) in pieces and str(e.epoch) in pieces]
    if found and pieces[-1] == "image":
        image = station.images.get(found[0].sequence)
        return (404, b'{"problem": "not kept"}') if image is None else (200, image)
    return (200, found[0].model_dump_json().encode()) if found else (404, b"{}")


def _page(station: Served, wanted: dict[str, str]) -> tuple[int, bytes]:
    unknown = set(wanted) - {"labelled", "limit", "before", "camera", "since"}
    if unknown or wanted.get("labelled") != "true":
        return 422, b'{"problem": "Extra inputs are not permitted"}'
    before = int(wanted.get("before", 2**53))
    rows = [(n, e) for n, e in enumerate(station.entries, start=1) if n < before and e.label]
    rows = [(n, e) for n, e in rows if wanted.get("camera", e.camera) == e.camera][::-1]
    count = min(PAGE, int(wanted["limit"]))
    entries = [LedgerEntry.model_validate(e.model_dump()) for _, e in rows[:count]]
    following = rows[count - 1][0] if len(rows) > count else None
    return 200, LedgerPage(entries=entries, next=following).model_dump_json().encode()


def read_pictures(folder: Path) -> list[bytes]:
    """Return the PNG files of a folder, by number."""
    paths = [p for p in folder.glob("*.png") if not p.stem.endswith("_mask")]
    return [path.read_bytes() for path in sorted(paths, key=lambda p: int(p.stem))]
