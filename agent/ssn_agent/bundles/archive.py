"""The bundle file: a zip of stored entries, checked as a whole before anything in it is opened."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.reference import Reference
from ssn_agent.errors import BundleError
from ssn_contract.manifest import Manifest
from ssn_contract.messages import BundleRef

MAX_BUNDLE_BYTES = 512 * 2**20
MAX_MANIFEST_BYTES = 2**20
MAX_ENTRIES = 257
MAX_REFERENCE_BYTES = 2**20
MANIFEST = "manifest.json"
REFERENCE = "reference.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file, so the same digest


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, held in memory: what was checked is what is used."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    manifest: Manifest
    reference: Reference
    """What its good training images look like; without any figure where it does not say."""
    _files: Mapping[str, bytes]

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read a bundle and verify it: paths, sizes, digests, and what manifest and reference say.

        Raises BundleError, saying what is wrong with which entry.
        """
        data = _read(path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                files = _entries(path, archive, len(data))
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            EOFError,
            ValueError,
            RuntimeError,
        ) as error:
            msg = f"{path}: not a bundle, or damaged ({error}); fetch it again"
            raise BundleError(msg) from error
        manifest = _parse_manifest(path, files.pop(MANIFEST))
        _verify(path, manifest, files)
        reference = _parse_reference(path, files.get(REFERENCE, b"{}"))
        return cls(path, hashlib.sha256(data).hexdigest(), manifest, reference, files)

    @property
    def ref(self) -> BundleRef:
        """Return how verdicts name this bundle."""
        return BundleRef(name=self.manifest.name, version=self.manifest.version, digest=self.digest)

    def read(self, entry: str) -> bytes:
        """Return an entry that the manifest lists. Raises BundleError where it lists none such."""
        try:
            return self._files[entry]
        except KeyError:
            msg = f"{self.path}: has no entry {entry!r}; pack it anew"
            raise BundleError(msg) from None


def write_bundle(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle; `manifest` lacks `entries`, which are listed here with size and SHA-256.

    The file appears at `path` whole or not at all. Raises BundleError where manifest and files do
    not hold together, or where the file cannot be written.
    """
    entries = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    try:
        checked = Manifest.model_validate({**manifest, "entries": entries})
    except ValidationError as error:
        msg = f"{path}: the manifest does not hold together: {_first_problem(error)}"
        raise BundleError(msg) from error
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        text = checked.model_dump_json(indent=1).encode()
        for name, data in [(MANIFEST, text), *sorted(files.items())]:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); check the folder and its space"
        raise BundleError(msg) from error
    return checked


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        raise BundleError(msg) from error
    if len(data) > MAX_BUNDLE_BYTES:
        msg = f"{path}: larger than the {MAX_BUNDLE_BYTES} bytes that a bundle may have"
        raise BundleError(msg)
    return data


def _entries(path: Path, archive: zipfile.ZipFile, archive_bytes: int) -> dict[str, bytes]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    problem = None
    if len(infos) > MAX_ENTRIES:
        problem = f"{len(infos)} entries, at most {MAX_ENTRIES} are taken"
    elif len(set(names)) != len(names):
        problem = "an entry is there twice"
    elif any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        problem = "entries are compressed; a bundle stores them, so that its size is what it says"
    elif sum(info.file_size for info in infos) > archive_bytes:
        problem = "its entries claim more bytes than the file has"
    elif MANIFEST not in names:
        problem = f"it has no {MANIFEST}"
    elif archive.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
        problem = f"its {MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes"
    if problem:
        msg = f"{path}: refused: {problem}"
        raise BundleError(msg)
    return {info.filename: archive.read(info) for info in infos}


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        msg = (
            f"{path}: its {MANIFEST} is not one this version reads: {_first_problem(error)}; "
            "update the agent, or pack the bundle with a trainer of this version"
        )
        raise BundleError(msg) from error


def _parse_reference(path: Path, data: bytes) -> Reference:
    problem = f"larger than {MAX_REFERENCE_BYTES} bytes"
    if len(data) <= MAX_REFERENCE_BYTES:
        try:
            return Reference.model_validate_json(data)
        except ValidationError as error:
            problem = _first_problem(error)
    msg = (
        f"{path}: its {REFERENCE} is not one this version reads: {problem}; update the agent, or "
        "pack the bundle with a trainer of this version"
    )
    raise BundleError(msg)


def _verify(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    listed = {entry.path: entry for entry in manifest.entries}
    strange = sorted(set(files) ^ set(listed))
    if strange:
        msg = f"{path}: refused: file and manifest disagree about {strange[0]!r}"
        raise BundleError(msg)
    for name, entry in listed.items():
        data = files[name]
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            msg = f"{path}: {name} is not what the manifest says (digest differs); fetch it again"
            raise BundleError(msg)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
