"""A bundle is taken as a whole or not at all, and nothing in it is believed unchecked."""

import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_agent.bundles import archive
from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.errors import BundleError
from support.bundles import files, manifest, write_brightness_bundle

Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("sound") / "brightness-1.0.0.ssn")


def entries_of(path: Path) -> Entries:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(items: "list[tuple[str | zipfile.ZipInfo, bytes]]", method: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in items:
            made.writestr(name, data)
    return buffer.getvalue()


def refused(tmp_path: Path, data: bytes) -> str:
    """Return the message with which a file of these bytes is refused."""
    path = tmp_path / "bad.ssn"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_a_sound_bundle_gives_back_what_was_packed(sound: Path) -> None:
    bundle = Bundle.open(sound)
    assert {name: bundle.read(name) for name in files()} == files()
    assert bundle.ref.digest == bundle.digest
    assert bundle.ref.name == "brightness"


def test_asking_for_an_entry_that_is_not_listed_names_it(sound: Path) -> None:
    with pytest.raises(BundleError, match=r"report\.html"):
        Bundle.open(sound).read("report.html")


def test_the_same_content_gives_the_same_file(tmp_path: Path, sound: Path) -> None:
    again = tmp_path / "again.ssn"
    write_bundle(again, manifest(), dict(reversed(files().items())))
    assert again.read_bytes() == sound.read_bytes()


@pytest.mark.parametrize("name", ["manifest.json", *files()])
@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_byte_in_any_entry_is_found(
    tmp_path: Path, sound: Path, name: str, place: float
) -> None:
    data = bytearray(sound.read_bytes())
    content = entries_of(sound)[name]
    start = bytes(data).index(content)
    data[start + int(place * len(content))] ^= 0x20
    refused(tmp_path, bytes(data))


@pytest.mark.parametrize("name", list(files()))
def test_an_entry_changed_together_with_its_zip_checksum_is_found_by_its_digest(
    tmp_path: Path, sound: Path, name: str
) -> None:
    entries = entries_of(sound)
    entries[name] = bytes([entries[name][0] ^ 1]) + entries[name][1:]
    message = refused(tmp_path, zipped(list(entries.items())))
    assert name in message


def _without(entries: Entries, name: str) -> Entries:
    return {key: value for key, value in entries.items() if key != name}


def _manifest_with(entries: Entries, /, **changes: Any) -> Entries:
    text = json.loads(entries["manifest.json"])
    return {**entries, "manifest.json": json.dumps({**text, **changes}).encode()}


def _listed(entries: Entries, /, **changes: Any) -> Entries:
    listed = json.loads(entries["manifest.json"])["entries"]
    return _manifest_with(entries, entries=[{**listed[0], **changes}, *listed[1:]])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda e: _without(e, "model.onnx"), r"model.onnx"),
        (lambda e: _without(e, "manifest.json"), r"manifest.json"),
        (lambda e: {**e, "extra.bin": b"x"}, "extra.bin"),
        (lambda e: {**e, "../evil": b"x"}, "../evil"),
        (lambda e: {**e, "/etc/evil": b"x"}, "/etc/evil"),
        (lambda e: {**e, "vectors/": b""}, "vectors/"),
        (lambda e: _listed(e, path="../model.onnx"), "entries.0.path"),
        (lambda e: _listed(e, path="/model.onnx"), "entries.0.path"),
        (lambda e: _listed(e, path=".hidden"), "entries.0.path"),
        (lambda e: _listed(e, path="model.onnx\n"), "entries.0.path"),
        (lambda e: _listed(e, size=1), "model.onnx"),
        (lambda e: _listed(e, sha256="0" * 64), "model.onnx"),
        (lambda e: _manifest_with(e, schema_version=2), "schema_version"),
        (lambda e: _manifest_with(e, schema_version="1"), "schema_version"),
        (lambda e: _manifest_with(e, threshold=None), "threshold"),
        (lambda e: {**e, "manifest.json": b"{"}, "manifest.json"),
        (lambda e: {**e, "manifest.json": b"\xff\xfe"}, "manifest.json"),
        (lambda e: {**e, "manifest.json": b"[" * 100_000}, "manifest.json"),
        (lambda e: {**e, "manifest.json": b" " * (2**20 + 1)}, "manifest.json"),
    ],
)
def test_a_bundle_whose_parts_do_not_agree_is_refused_by_the_part(
    tmp_path: Path, sound: Path, change: Callable[[Entries], Entries], named: str
) -> None:
    message = refused(tmp_path, zipped(list(change(entries_of(sound)).items())))
    assert named in message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, sound: Path) -> None:
    items: list[tuple[str | zipfile.ZipInfo, bytes]] = [*entries_of(sound).items()]
    assert "twice" in refused(tmp_path, zipped([*items, ("model.onnx", b"another")]))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused_unopened(tmp_path: Path, sound: Path, method: int) -> None:
    data = zipped(list(entries_of(sound).items()), method)
    assert "compressed" in refused(tmp_path, data)


def test_a_zip_bomb_is_refused_without_being_unpacked(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zipped([*entries_of(sound).items(), ("bomb", bytes(2**24))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20

    def read(*_: object) -> bytes:
        pytest.fail("an entry was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    refused(tmp_path, bomb)


def test_more_entries_than_a_bundle_may_have_are_refused(tmp_path: Path, sound: Path) -> None:
    many = [(f"e{i}", b"") for i in range(archive.MAX_ENTRIES)]
    assert "entries" in refused(tmp_path, zipped([*entries_of(sound).items(), *many]))


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**32 - 2])
def test_sizes_that_lie_are_refused(tmp_path: Path, sound: Path, size: int) -> None:
    data = bytearray(sound.read_bytes())
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        start = data.index(signature) + offset
        data[start : start + 4] = struct.pack("<I", size)
    refused(tmp_path, bytes(data))


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all" * 99, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_file_cut_or_changed_anywhere_never_ends_in_another_error(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(sound.read_bytes())
    directory = bytes(content).index(b"PK\1\2")
    cut = data.draw(st.booleans())
    if cut:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        # Most of the file is weights: look where the zip's own tables are.
        at = data.draw(st.integers(directory, len(content) - 1) | st.integers(0, 60))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.ssn"
    path.write_bytes(content)
    try:
        opened = Bundle.open(path)
    except BundleError:
        return
    assert not cut
    assert {name: opened.read(name) for name in files()} == files()


def test_a_symbolic_link_in_the_zip_is_never_followed(tmp_path: Path, sound: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = zipfile.ZipInfo("model.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    rest = _without(entries_of(sound), "model.onnx")
    message = refused(tmp_path, zipped([*rest.items(), (link, str(secret).encode())]))
    assert "model.onnx" in message


def test_a_bundle_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.ssn"):
        Bundle.open(tmp_path / "absent.ssn")
    with pytest.raises(BundleError, match=tmp_path.name):
        Bundle.open(tmp_path)


def test_a_file_larger_than_a_bundle_may_be_is_refused_unread(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", 1000)
    assert "larger" in refused(tmp_path, sound.read_bytes())


@pytest.mark.parametrize(
    "changes",
    [
        {"vectors": [{"image": "absent.png", "score": 0.1, "map": "vectors/0.f32"}]},
        {"name": "Upper Case"},
        {"precisions": []},
        {"threshold": {"method": "x", "good_images": -1, "bad_images": 0}},
    ],
)
def test_a_manifest_that_does_not_hold_together_leaves_no_file(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(BundleError, match="does not hold together"):
        write_brightness_bundle(tmp_path / "bad.ssn", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_written_leaves_the_old_one_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"new\.ssn"):
        write_brightness_bundle(tmp_path / "no such folder" / "new.ssn")
    taken = tmp_path / "taken.ssn"
    taken.mkdir()
    with pytest.raises(BundleError, match=r"taken\.ssn"):
        write_brightness_bundle(taken)
    assert list(tmp_path.iterdir()) == [taken]
