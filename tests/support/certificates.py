"""Certificates as a plant's authority makes them (by openssl), and a broker that wants them."""

import shutil
import subprocess
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from ssn_agent.publish.settings import BrokerSettings
from support.line import Line
from support.mosquitto import Mosquitto, answers, free_port, program, running_mosquitto
from support.waiting import wait_until

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Issues certificates for this machine."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make its own certificate, `cert`."""
        self._folder = folder / name
        self._folder.mkdir()
        self.cert, self._key = self._folder / "ca.pem", self._folder / "ca.key"
        made = ("-keyout", self._key, "-out", self.cert, "-subj", f"/CN={name}", "-days", "2")
        _openssl("req", "-x509", *_NEW_KEY, *made)

    def issue(self, name: str, days: int = 2, alternative: str = "IP:127.0.0.1") -> Issued:
        """Return a certificate in a name, valid from now on; of negative days, not any more."""
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / "request", self._folder / "extensions"
        extensions.write_text(f"subjectAltName={alternative}\n")
        made = ("-keyout", issued.key, "-out", request, "-subj", f"/CN={name}")
        _openssl("req", *_NEW_KEY, *made)
        by = ("-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-days", str(days))
        _openssl("x509", "-req", "-in", request, *by, "-extfile", extensions, "-out", issued.cert)
        return issued


class Plant:
    """An authority, brokers with certificates of it, and the files that a station reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "plant")
        self.files = Issued(folder / "station.pem", folder / "station.key")
        self.ca = folder / "trusted.pem"
        self.install(self.authority.issue("box-1"), self.authority.cert)
        self._brokers = ExitStack()
        self._runtime = Path(self._brokers.enter_context(tempfile.TemporaryDirectory()))
        self.secured_port = 0

    def install(self, issued: Issued, ca: Path) -> None:
        """Put files in place as a deployment does: each at once."""
        for new, place in (
            (issued.cert, self.files.cert),
            (issued.key, self.files.key),
            (ca, self.ca),
        ):
            shutil.copy(new, place.with_suffix(".new"))
            place.with_suffix(".new").rename(place)

    def broker(self, *lines: str, issued: Issued | None = None) -> Mosquitto:
        """Start one that wants a certificate of the authority, by TLS 1.3 alone."""
        own = issued or self.authority.issue("broker")
        port = free_port()
        secured = [f"listener {port} 127.0.0.1", f"cafile {self.authority.cert}"]
        secured += [f"certfile {own.cert}", f"keyfile {own.key}", "tls_version tlsv1.3"]
        secured += ["require_certificate true", "use_identity_as_username true", *lines]
        broker = self._brokers.enter_context(running_mosquitto(self.folder, *secured))
        wait_until(lambda: answers(port), 10, "no secured port")
        self.secured_port = port
        return broker

    def settings(self) -> dict[str, object]:
        """Return those of a station with the files, as in `[broker]`."""
        files = {"ca_file": self.ca, "cert_file": self.files.cert, "key_file": self.files.key}
        return {"port": self.secured_port, "tls": True, **files}

    def line(self, **changes: object) -> "closing[Line]":
        """Return a line of such a station."""
        settings = BrokerSettings.model_validate({**self.settings(), **changes})
        return closing(Line(self._runtime, settings))

    def close(self) -> None:
        """End the brokers."""
        self._brokers.close()


def encrypted(key: Path, to: Path) -> Path:
    """Write a key that needs a password."""
    _openssl("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", to)
    return to


def _openssl(*arguments: "str | Path") -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)
