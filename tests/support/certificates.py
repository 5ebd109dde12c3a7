"""Certificates as a plant's authority makes them: by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.mosquitto import program

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


def encrypted(key: Path, to: Path) -> Path:
    """Write a key that needs a password."""
    _openssl("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", to)
    return to


def _openssl(*arguments: "str | Path") -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)
