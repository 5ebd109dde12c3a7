"""`channel serve` gives away a channel's metadata and bundles, and nothing else of the machine."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.channels import Plant, Station, serving


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    made = Plant.made(tmp_path_factory.mktemp("serve") / "plant")
    made.publish("1.0.0")
    (made.metadata / "secret.txt").write_text("secret")
    (made.folder / "targets" / "stable" / "secret.ssn").write_text("secret")
    return made


@pytest.fixture(scope="module")
def url(plant: Plant) -> Iterator[str]:
    command = ("-m", "ssn_trainer.cli", "channel", "serve", "--port", "{port}")
    with serving(*command, "--channel", plant.folder) as address:
        yield address


def answer(url: str, request: str) -> bytes:
    """Send a request as it is, which a client library might correct; return the whole answer."""
    parts = urlsplit(url)
    assert parts.port is not None
    with socket.create_connection(("127.0.0.1", parts.port), 10) as line:
        line.sendall(f"{request} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while data := line.recv(2**16):
            received += data
    return received


def test_a_station_pulls_from_it(plant: Plant, url: str, tmp_path: Path) -> None:
    assert Station(tmp_path, url, plant.metadata / "1.root.json").version() == "1.0.0"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metadata/",
        "/.lock",
        "/metadata/secret.txt",
        "/targets/stable/secret.ssn",
        "/../keys/",
        "/metadata/../../keys/x.json",
        "/metadata/..%2f..%2fkeys",
        "/%2e%2e/passphrases/root",
        "//etc/passwd",
        "/etc/passwd",
        "http://here/metadata/timestamp.json",
        "/metadata/timestamp.json?x",
        "/metadata/timestamp.json%00",
        "/metadata/9.root.json",
    ],
)
def test_what_is_no_file_of_the_channel_is_not_found(url: str, path: str) -> None:
    received = answer(url, f"GET {path}")
    assert received.startswith(b"HTTP/1.0 404")
    assert b"secret" not in received


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_can_only_be_read(plant: Plant, url: str, method: str) -> None:
    before = (plant.metadata / "timestamp.json").read_bytes()
    assert answer(url, f"{method} /metadata/timestamp.json").startswith(b"HTTP/1.0 501")
    assert (plant.metadata / "timestamp.json").read_bytes() == before


def test_a_length_is_told_without_the_content(plant: Plant, url: str) -> None:
    received = answer(url, "HEAD /metadata/timestamp.json")
    size = (plant.metadata / "timestamp.json").stat().st_size
    assert f"Content-Length: {size}\r\n".encode() in received
    assert received.endswith(b"\r\n\r\n")


def test_it_listens_on_this_machine_alone(url: str) -> None:
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        own = "127.0.0.2"
    parts = urlsplit(url)
    assert parts.port is not None
    with socket.socket() as probe:
        assert probe.connect_ex((own, parts.port)) != 0
