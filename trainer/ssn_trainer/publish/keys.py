"""Signing keys: Ed25519, each in a PEM file that a passphrase encrypts, `ROLE-KEYID.pem`.

A file is named by its key, so that the old key and the new one lie side by side while one replaces
the other, and a command finds the key that the metadata asks for wherever its folder is mounted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import TypeAdapter, ValidationError
from securesystemslib.signer import CryptoSigner

from ssn_agent.atomic import write_atomically
from ssn_agent.passphrases import ask_passphrase, read_passphrase
from ssn_trainer.errors import PublishError

_SHOWN = 8
ROOT_FILE = "root.json"
"""Beside the keys: a root of the channel by which its metadata is known."""
VERSIONS_FILE = "versions.json"
"""Beside that root: each role's version as of the last change that was made from there."""
_VERSIONS = TypeAdapter(dict[str, int])


def key_name(role: str, keyid: str) -> str:
    """Return how people and files call a key."""
    return f"{role}-{keyid[:_SHOWN]}"


@dataclass(frozen=True)
class Passphrases:
    """Where passphrases come from: files of a folder that are named by key or role, or a prompt.

    Such a folder is what systemd makes of `LoadCredential=`.
    """

    folder: Path | None = None

    def of(self, key: str, role: str, *, new: bool = False) -> bytes:
        """Return the passphrase of a key. Raises PassphraseError."""
        if self.folder is not None:
            for name in (key, role):
                if (path := self.folder / name).is_file():
                    return read_passphrase(path)
        where = self.folder or "no folder was given"
        instead = f"no file {key} or {role} ({where}); name the folder with --passphrases"
        return ask_passphrase(key, instead, new=new)


class KeyFolders:
    """Folders with key files; new keys go into the first one. Each file is opened once."""

    def __init__(self, folders: Sequence[Path], passphrases: Passphrases) -> None:
        self._folders = folders
        self._passphrases = passphrases
        self._opened: dict[str, CryptoSigner] = {}
        self._unwritten: dict[Path, bytes] = {}

    def make(self, role: str) -> CryptoSigner:
        """Make a key, whose file `save` writes. Raises PublishError."""
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private)
        name = key_name(role, signer.public_key.keyid)
        passphrase = self._passphrases.of(name, role, new=True)
        self._unwritten[self._folders[0] / f"{name}.pem"] = private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
        )
        self._opened[signer.public_key.keyid] = signer
        return signer

    def save(self) -> None:
        """Write the files of new keys. Raises PublishError."""
        for path, sealed in self._unwritten.items():
            self._write(path, sealed)
        self._unwritten.clear()

    def trust(self, root: bytes) -> None:
        """Write the root by which a new channel is known from now on. Raises PublishError."""
        self._write(self._folders[0] / ROOT_FILE, root)

    def trusted_root(self) -> Path:
        """Return it. Raises PublishError where no folder has one."""
        for folder in self._folders:
            if (path := folder / ROOT_FILE).is_file():
                return path
        msg = (
            f"{', '.join(map(str, self._folders))}: no {ROOT_FILE} there by which the channel is "
            "known; take it from where the channel was made, not from the served folder"
        )
        raise PublishError(msg)

    def note(self, versions: Mapping[str, int]) -> None:
        """Write down each role's version, as it is in the channel now. Raises PublishError."""
        path = self.trusted_root().with_name(VERSIONS_FILE)
        self._write(path, _VERSIONS.dump_json(dict(versions)))

    def noted(self) -> dict[str, int]:
        """Return what was written down; nothing, where nothing was yet. Raises PublishError."""
        path = self.trusted_root().with_name(VERSIONS_FILE)
        try:
            return _VERSIONS.validate_json(path.read_bytes(), strict=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            msg = f"{path}: cannot be read ({error.strerror}); check its permissions"
            raise PublishError(msg) from error
        except ValidationError as error:
            msg = (
                f"{path}: damaged; delete it when you know that the channel's folder is the newest"
            )
            raise PublishError(msg) from error

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, data, 0o600)
        except OSError as error:
            msg = f"{path}: cannot be written ({error.strerror}); check the folder and its space"
            raise PublishError(msg) from error

    def path(self, name: str) -> Path | None:
        """Return a key's file, None where no folder has it."""
        return next((p for f in self._folders if (p := f / f"{name}.pem").is_file()), None)

    def open(self, role: str, keyids: Collection[str]) -> list[CryptoSigner]:
        """Return those of a role's keys that are there. Raises PublishError for a file's fault."""
        for keyid in keyids:
            name = key_name(role, keyid)
            if keyid not in self._opened and (path := self.path(name)) is not None:
                self._opened[keyid] = _open(path, keyid, self._passphrases.of(name, role))
        return [self._opened[keyid] for keyid in keyids if keyid in self._opened]


def _open(path: Path, keyid: str, passphrase: bytes) -> CryptoSigner:
    try:
        private = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        msg = f"{path}: does not open: a wrong passphrase, or no encrypted PEM key"
        raise PublishError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise PublishError(msg) from error
    if not isinstance(private, Ed25519PrivateKey):
        msg = f"{path}: not an Ed25519 key; take the file that `channel init` or `rotate` wrote"
        raise PublishError(msg)
    signer = CryptoSigner(private)
    if signer.public_key.keyid != keyid:
        msg = f"{path}: holds another key than its name says; take the file that was written so"
        raise PublishError(msg)
    return signer
