"""A station takes what its channel signed, whole and in order, and refuses every other thing."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tuf.api.metadata import Metadata, TargetFile

from ssn_agent import cli
from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.in_use import bundles_in_use
from ssn_agent.bundles.rules import Pace, superfluous
from ssn_agent.bundles.settings import ChannelSettings
from ssn_agent.bundles.store import Store
from ssn_agent.errors import ChannelError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import Settings
from ssn_contract.channel import ChannelBundle
from ssn_trainer.publish import repository
from support.certificates import Authority
from support.channels import NAME, Plant, Station, now, pull_into, rewrite, serving, static_files
from support.killed import kill_at_each_step

FIRST, SECOND = f"{NAME}-1.0.0.ssn", f"{NAME}-2.0.0.ssn"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("served")
    with static_files(folder) as url:
        yield folder, url


@pytest.fixture(scope="module")
def hostile(served: tuple[Path, str]) -> Iterator[str]:
    with serving("-m", "support.hostile_server", served[0], "{port}") as url:
        yield url


@pytest.fixture
def home(served: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder of this test's own that is served."""
    return served[0] / tmp_path.name


@pytest.fixture
def plant(home: Path) -> Plant:
    """A channel whose `stable` names version 1.0.0."""
    made = Plant.made(home)
    made.publish("1.0.0")
    return made


@pytest.fixture
def root(plant: Plant, tmp_path: Path) -> Path:
    """The root that came by hand."""
    return Path(shutil.copy(plant.metadata / "1.root.json", tmp_path / "root.json"))


@pytest.fixture
def station(served: tuple[Path, str], plant: Plant, root: Path, tmp_path: Path) -> Station:
    return Station(tmp_path / "data", f"{served[1]}/{plant.home.name}/channel", root)


def refused(station: Station, *words: str) -> str:
    """Return the message with which a pull ends; the store is as it was."""
    before = {name: path.read_bytes() for name, path in station.stored().items()}
    with pytest.raises(ChannelError) as caught:
        station.pull()
    message = str(caught.value)
    assert station.settings.url in message
    for word in words:
        assert word in message
    assert {name: path.read_bytes() for name, path in station.stored().items()} == before
    assert station.leftovers() == []
    return message


def like(station: Station, home: Path, **changes: Any) -> Station:
    """Return another station of the same channel."""
    return Station(home, station.settings.url, station.settings.root_file, **changes)


def newest(plant: Plant, role: str) -> Path:
    return plant.metadata / f"{plant.state().of(role).signed.version}.{role}.json"


# What is served rightly


def test_a_pull_brings_the_channels_bundle_and_the_next_one_leaves_it(
    plant: Plant, station: Station
) -> None:
    [first] = station.pull()
    assert (first.version, first.is_new, first.path.name) == ("1.0.0", True, FIRST)
    assert first.path.read_bytes() == plant.bundle("1.0.0").read_bytes()
    came = first.path.stat().st_ino
    [again] = station.pull()
    assert (again.is_new, again.path.stat().st_ino) == (False, came)
    assert station.leftovers() == []


def test_a_check_names_the_bundle_and_fetches_nothing(station: Station) -> None:
    [named] = station.pull(fetch=False)
    assert (named.version, named.is_new) == ("1.0.0", True)
    assert station.stored() == {}


def test_a_station_of_canary_gets_what_stable_does_not(
    plant: Plant, station: Station, tmp_path: Path
) -> None:
    plant.publish("2.0.0", "canary")
    canary = Station(
        tmp_path / "c", station.settings.url, station.settings.root_file, name="canary"
    )
    assert canary.version() == "2.0.0"
    assert station.version() == "1.0.0"


def test_a_damaged_bundle_in_the_store_is_fetched_again(plant: Plant, station: Station) -> None:
    station.pull()
    (station.bundles / FIRST).write_bytes(b"damaged")
    [again] = station.pull()
    assert again.is_new
    assert Bundle.open(again.path).digest == Bundle.open(plant.bundle("1.0.0")).digest


def test_a_pull_puts_nothing_in_the_place_of_another_bundle_that_a_camera_has(
    plant: Plant, station: Station, tmp_path: Path
) -> None:
    """Brought there by hand, say: the camera would be judged by it from its next start on."""
    [here] = station.pull()
    link = tmp_path / "link.ssn"
    link.symlink_to(here.path)
    shutil.copy(plant.bundle("2.0.0"), here.path)
    for fetch in (True, False):
        with pytest.raises(ChannelError, match=r"1\.0\.0 is another bundle .* another version"):
            station.pull(in_use=[link], fetch=fetch)
        assert here.path.read_bytes() == plant.bundle("2.0.0").read_bytes()
    here.path.write_bytes(b"damaged")
    [again] = station.pull(in_use=[link])
    assert again.is_new
    shutil.copy(plant.bundle("2.0.0"), here.path)
    station.pull()
    assert here.path.read_bytes() == plant.bundle("1.0.0").read_bytes()


def test_going_back_to_an_older_bundle_is_an_order_that_is_followed(
    plant: Plant, station: Station
) -> None:
    station.pull()
    plant.publish("2.0.0")
    station.pull()
    plant.publish("1.0.0")
    assert station.version() == "1.0.0"


def test_the_newest_few_stay_and_those_that_cameras_have(plant: Plant, station: Station) -> None:
    [oldest] = station.pull()
    for version in ("2.0.0", "3.0.0", "4.0.0", "5.0.0", "6.0.0"):
        plant.publish(version)
        [newest] = station.pull(in_use=[oldest.path])
        os.utime(newest.path, (float(version[0]), float(version[0])))
    kept = {f"{NAME}-{version}.ssn" for version in ("1.0.0", "3.0.0", "4.0.0", "5.0.0", "6.0.0")}
    assert set(station.stored()) == kept


@pytest.mark.parametrize("named", ["a symlink", "..", "a folder that is a symlink"])
def test_what_a_camera_has_stays_whatever_way_its_path_is_written(
    plant: Plant, station: Station, tmp_path: Path, named: str
) -> None:
    [oldest] = station.pull()
    link = tmp_path / "link"
    link.symlink_to(oldest.path if named == "a symlink" else oldest.path.parent)
    path = {
        "a symlink": link,
        "..": station.bundles / ".." / station.bundles.name / FIRST,
        "a folder that is a symlink": link / FIRST,
    }[named]
    none_kept = like(station, tmp_path / "data", keep=0)
    plant.publish("2.0.0")
    none_kept.pull(in_use=[path])
    assert set(none_kept.stored()) == {FIRST, SECOND}
    none_kept.pull()
    assert set(none_kept.stored()) == {SECOND}


def test_bundles_of_the_agent_that_runs_here_are_in_use_whatever_the_file_says(
    tmp_path: Path,
) -> None:
    source = {"kind": "folder", "path": "/images"}
    folders = {"data_dir": tmp_path, "runtime_dir": tmp_path / "run"}
    given, running = (
        Settings(cameras={"left": {"source": source, "bundle": bundle}}, **folders)
        for bundle in ("/given.ssn", "/running.ssn")
    )
    assert bundles_in_use(given) == {Path("/given.ssn")}
    files = RuntimeFiles(given.runtime_dir)
    files.root.mkdir()
    files.settings.write_text(running.model_dump_json())
    assert bundles_in_use(given) == {Path("/given.ssn"), Path("/running.ssn")}


def test_what_is_needed_is_never_superfluous() -> None:
    stored = [(Path(name), float(came)) for came, name in enumerate("abcdef")]
    assert superfluous(stored, {Path("a")}, 2) == [Path(name) for name in "dcb"]
    assert superfluous(stored, {Path(name) for name in "abcdef"}, 0) == []


def test_a_station_that_was_away_follows_every_change_of_keys(
    plant: Plant, station: Station
) -> None:
    for role in ("root", "timestamp", "root", "stable", "snapshot", "canary", "root"):
        plant.rotate(role)
    plant.revoke("root")
    plant.publish("2.0.0")
    assert plant.state().root.signed.version > 4
    assert station.version() == "2.0.0"


def test_a_station_goes_on_while_keys_change(plant: Plant, station: Station) -> None:
    for role in ("root", "timestamp", "stable", "snapshot"):
        assert station.version() == "1.0.0"
        plant.rotate(role)
    assert station.version() == "1.0.0"


def test_a_station_verifies_without_the_package_cryptography(
    station: Station, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path; from ssn_agent.bundles.channel import pull\n"
        "from ssn_agent.bundles.settings import ChannelSettings\n"
        "settings = ChannelSettings.model_validate_json(sys.argv[1])\n"
        "print(pull(settings, Path(sys.argv[2]), Path(sys.argv[3]))[0].version)\n"
    )
    given = (station.settings.model_dump_json(), tmp_path / "b", tmp_path / "m")
    command = [sys.executable, "-c", code, *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.0.0", done.stderr


# Attacks


def test_an_altered_bundle_is_refused(plant: Plant, station: Station) -> None:
    [target] = (plant.folder / "targets" / "stable").iterdir()
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    refused(station, "serves a file that is not the signed one: altered or cut short")


def test_a_bundle_that_is_cut_short_is_refused(plant: Plant, station: Station) -> None:
    [target] = (plant.folder / "targets" / "stable").iterdir()
    target.write_bytes(target.read_bytes()[:-1])
    refused(station, "altered or cut short")


@pytest.mark.parametrize("role", ["snapshot", "targets", "stable"])
def test_altered_metadata_is_refused(plant: Plant, station: Station, role: str) -> None:
    rewrite(newest(plant, role), version=99)
    refused(station, "serves a file that is not the signed one: altered or cut short")


def test_an_altered_timestamp_is_refused(plant: Plant, station: Station) -> None:
    rewrite(plant.metadata / "timestamp.json", version=99)
    refused(station, "without enough signatures by keys that this station trusts", "timestamp")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 10_000, b'{"signed": {}, "signatures": 1}']
)
def test_what_is_no_metadata_is_refused(plant: Plant, station: Station, content: bytes) -> None:
    (plant.metadata / "timestamp.json").write_bytes(content)
    refused(station, "serves what is no sound metadata")


def test_a_signature_that_is_none_is_refused(plant: Plant, station: Station) -> None:
    path = plant.metadata / "timestamp.json"
    document = json.loads(path.read_text())
    document["signatures"][0]["sig"] = "no hexadecimal digits"
    path.write_text(json.dumps(document))
    refused(station, "without enough signatures")


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "stable"])
def test_expired_metadata_is_refused(plant: Plant, station: Station, role: str) -> None:
    station.pull()
    past, days = now() - timedelta(days=10), {"timestamp": 12, role: 9}
    repository.commit(plant.folder, plant.state(), plant.state(), plant.keys(), past, days)
    message = refused(station, "is out of date", "ssn-trainer channel refresh")
    assert role in message


def test_an_older_version_is_refused(plant: Plant, station: Station, tmp_path: Path) -> None:
    shutil.copytree(plant.metadata, tmp_path / "old")
    plant.publish("2.0.0")
    assert station.version() == "2.0.0"
    shutil.copytree(tmp_path / "old", plant.metadata, dirs_exist_ok=True)
    refused(station, "serves an older version than before")


@pytest.mark.parametrize("role", ["snapshot", "stable"])
def test_metadata_that_does_not_belong_together_is_refused(
    plant: Plant, station: Station, role: str
) -> None:
    before = newest(plant, role)
    plant.publish("2.0.0")
    shutil.copy(before, newest(plant, role))
    refused(station, "serves a file that is not the signed one")


def test_an_older_snapshot_under_a_new_timestamp_is_refused(plant: Plant, station: Station) -> None:
    """By who has the timestamp's key alone."""
    old = plant.state()
    plant.publish("2.0.0")
    station.pull()
    mixed = plant.state()
    mixed.timestamp.signed.snapshot_meta = old.timestamp.signed.snapshot_meta
    repository.commit(plant.folder, plant.state(), mixed, plant.keys(), now())
    refused(station, "serves an older version than before, or versions that do not belong together")


def test_a_channel_of_unknown_keys_is_refused(plant: Plant, station: Station) -> None:
    station.pull()
    other = Plant.made(plant.home / "other")
    other.publish("2.0.0")
    shutil.rmtree(plant.folder)
    other.folder.rename(plant.folder)
    refused(station, "without enough signatures by keys that this station trusts", "0/1")


def test_a_root_of_unknown_keys_is_refused(plant: Plant, station: Station) -> None:
    other = Plant.made(plant.home / "other")
    other.rotate("root")
    shutil.copy(other.metadata / "2.root.json", plant.metadata)
    refused(station, "without enough signatures by keys that this station trusts", "root", "0/2")


def test_too_few_signatures_are_refused(plant: Plant, station: Station) -> None:
    plant.rotate("timestamp")
    path = plant.metadata / "2.root.json"
    document = json.loads(path.read_text())
    document["signatures"] = document["signatures"][:1]
    path.write_text(json.dumps(document))
    refused(station, "without enough signatures by keys that this station trusts", "root", "1/2")


def test_one_signature_given_twice_is_one(plant: Plant, station: Station) -> None:
    plant.rotate("timestamp")
    path = plant.metadata / "2.root.json"
    document = json.loads(path.read_text())
    document["signatures"] = document["signatures"][:1] * 2
    path.write_text(json.dumps(document))
    refused(station)


def test_the_key_of_one_channel_signs_nothing_for_another(plant: Plant, station: Station) -> None:
    """Who has canary's key, and those of snapshot and timestamp, cannot touch stable."""
    plant.publish("2.0.0", "canary")
    new = plant.state()
    stolen = new.targets["canary"].signed.targets[f"canary/{NAME}.ssn"]
    forged = TargetFile(
        stolen.length, stolen.hashes, f"stable/{NAME}.ssn", {"custom": stolen.custom}
    )
    new.targets["canary"].signed.targets[forged.path] = forged
    repository.commit(plant.folder, plant.state(), new, plant.keys(), now())
    assert station.version() == "1.0.0"


def test_after_a_stolen_key_is_revoked_a_station_forgets_what_it_was_made_to_take(
    plant: Plant, station: Station
) -> None:
    """Versions as high as can be would keep it from every later one."""
    good = (plant.metadata / "timestamp.json").read_bytes()
    forged = Metadata.from_bytes(good)
    forged.signed.version = 10**9
    [thief] = plant.keys().open("timestamp", plant.state().keyids("timestamp"))
    forged.sign(thief)
    (plant.metadata / "timestamp.json").write_bytes(forged.to_bytes())
    station.pull()
    (plant.metadata / "timestamp.json").write_bytes(good)
    refused(station, "serves an older version than before")
    plant.revoke("timestamp")
    assert station.version() == "1.0.0"


@pytest.mark.parametrize("says", [1, 2])
def test_a_bundle_made_for_another_contract_version_is_refused(
    plant: Plant, station: Station, says: int
) -> None:
    """Whether the channel says so, which spares the transfer, or only the bundle."""
    with zipfile.ZipFile(plant.bundle("2.0.0")) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(entries["manifest.json"])
    entries["manifest.json"] = json.dumps({**manifest, "schema_version": 2}).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    sign(plant, buffer.getvalue(), version="2.0.0", manifest_schema_version=says)
    if says == 1:
        refused(station, "is signed and yet no bundle for this agent", "update the agent")
    else:
        refused(station, "is made for contract version 2, this agent reads version 1")


def test_a_bundle_under_a_wrong_name_is_refused(plant: Plant, station: Station) -> None:
    data = plant.bundle("3.0.0").read_bytes()
    sign(plant, data, version="2.0.0")
    refused(station, f"is signed and yet says of itself that it is {NAME} 3.0.0")


def test_a_bundle_larger_than_the_settings_allow_is_not_fetched(
    plant: Plant, station: Station, tmp_path: Path
) -> None:
    data = bytes(2**20 + 1)
    sign(plant, data, version="2.0.0")
    small = Station(
        tmp_path / "s", station.settings.url, station.settings.root_file, max_bundle_mib=1
    )
    refused(small, f"{2**20 + 1} bytes; channel.max_bundle_mib allows {2**20}")


def test_what_a_channel_says_must_be_understood(plant: Plant, station: Station) -> None:
    sign(plant, b"", version="../../etc/passwd")
    refused(station, "announced in a way that this agent does not understand", "version")


def sign(plant: Plant, data: bytes, **said: Any) -> None:
    """Have `stable` name these bytes, which `publish` would refuse."""
    new = plant.state()
    target = TargetFile.from_data(f"stable/{NAME}.ssn", data, ["sha256"])
    target.unrecognized_fields["custom"] = {**ChannelBundle(version="1").model_dump(), **said}
    new.targets["stable"].signed.targets[target.path] = target
    repository.write(plant.folder / "targets" / target.get_prefixed_paths()[0], data)
    repository.commit(plant.folder, plant.state(), new, plant.keys(), now())


# A server that holds the station


SLOW = {"timeout_s": 1.0}
LIMIT_S = 30.0


@pytest.mark.parametrize(
    ("ill_turn", "changes", "words"),
    [
        ("endless:timestamp.json", {}, "sends more than a file may have"),
        ("endless:2.root.json", {}, "sends more than a file may have"),
        ("endless:.ssn", {}, "sends more than a file may have"),
        ("redirecting:timestamp.json", {}, "answers 302"),
        ("garbled:timestamp.json", {}, "speaks no HTTP"),
        ("silent:timestamp.json", SLOW, "is too slow"),
        ("silent:.ssn", SLOW, "is too slow"),
        ("trickling:.ssn", SLOW, "channel.min_rate_kib_s"),
        ("trickling-headers:timestamp.json", SLOW, "channel.min_rate_kib_s"),
        ("trickling-chunk-size:.ssn", SLOW, "channel.min_rate_kib_s"),
        (
            "trickling:.ssn",
            {"timeout_s": 1.0, "limit_s": 2.0, "min_rate_kib_s": 0.001},
            "the time for a whole pull (channel.limit_s) is up",
        ),
    ],
)
def test_a_server_cannot_hold_a_station(
    hostile: str,
    plant: Plant,
    root: Path,
    tmp_path: Path,
    ill_turn: str,
    changes: dict[str, float],
    words: str,
) -> None:
    url = f"{hostile}/{ill_turn}/{plant.home.name}/channel"
    held = Station(tmp_path / "held", url, root, **{"limit_s": LIMIT_S, **changes})
    began_at = time.monotonic()
    message = refused(held, words)
    assert time.monotonic() - began_at < LIMIT_S
    file = re.escape(ill_turn.partition(":")[2])
    assert re.search(rf"{re.escape(url)}/(metadata|targets)/\S*{file}: ", message), message
    assert ("(channel.limit_s)" in message) == ("(channel.limit_s)" in words), message


@pytest.mark.needs("openssl")
def test_over_tls_it_is_the_same(
    served: tuple[Path, str],
    plant: Plant,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path, "plant")
    own = authority.issue("server")
    command = ("-m", "support.hostile_server", served[0], "{port}", own.cert, own.key)
    with serving(*command) as address:
        url = f"{address.replace('http', 'https')}/trickling:{{}}/{plant.home.name}/channel"
        sound = Station(tmp_path / "tls", url.format("none"), root)
        refused(sound, "cannot be reached", "certificate verify failed")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
        assert sound.version() == "1.0.0"
        held = Station(tmp_path / "held", url.format(".ssn"), root, **SLOW)
        refused(held, "channel.min_rate_kib_s")


def test_a_pace_is_that_of_each_span_and_ends_with_the_pull() -> None:
    pace = Pace(span_s=10, min_bytes_per_s=100, ends_at=100, span_began_at=0)
    assert pace.problem(9.9, 0) is None
    assert pace.problem(10, 1_000_000) is None
    assert pace.problem(19.9, 1_000_000) is None
    assert "0 bytes in 10.0 s" in str(pace.problem(20, 1_000_000))
    assert "channel.limit_s" in str(pace.problem(100, 10**9))


# Faults


def test_a_server_that_is_away_is_named(plant: Plant, root: Path, tmp_path: Path) -> None:
    del plant
    station = Station(tmp_path / "away", "http://127.0.0.1:1", root)
    refused(station, "cannot be reached", "Connection refused")


def test_a_server_that_has_no_channel_there_is_named(station: Station, tmp_path: Path) -> None:
    url = f"{station.settings.url}/elsewhere"
    lost = Station(tmp_path / "lost", url, station.settings.root_file)
    refused(lost, "does not give a file: check channel.url", "404")


def test_a_bundle_that_the_channel_lacks_is_named_and_the_others_come(
    station: Station, tmp_path: Path
) -> None:
    both = like(station, tmp_path / "both", bundles=["no", NAME])
    with pytest.raises(ChannelError, match="names no bundle no; publish it"):
        both.pull()
    assert set(both.stored()) == {FIRST}


def test_a_bundle_that_the_channel_lacks_does_not_fill_the_disk_with_the_others(
    plant: Plant, station: Station, tmp_path: Path
) -> None:
    both = like(station, tmp_path / "both", bundles=["no", NAME], keep=0)
    both.bundles.mkdir(parents=True)
    once = both.bundles / "no-1.0.0.ssn"
    once.write_bytes(b"what was there of it")
    for version in ("2.0.0", "3.0.0"):
        plant.publish(version)
        with pytest.raises(ChannelError, match="names no bundle no; publish it"):
            both.pull()
    assert set(both.stored()) == {once.name, f"{NAME}-3.0.0.ssn"}


def test_a_root_file_that_is_none_is_named(station: Station, root: Path) -> None:
    root.write_text("hello")
    with pytest.raises(ChannelError, match=r"not a root\.json") as caught:
        station.pull()
    assert str(root) in str(caught.value)


def test_a_second_pull_at_the_same_time_is_refused(station: Station) -> None:
    with (
        Store.opened(station.bundles),
        pytest.raises(ChannelError, match="another pull is under way"),
    ):
        station.pull()


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "host", "http://", "http://user:word@host/", "http://h/?a", "http://h/a b"],
)
def test_what_is_no_channels_address_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "root.json").touch()
    with pytest.raises(ValidationError, match="url"):
        ChannelSettings(url=url, root_file=tmp_path / "root.json", bundles=[NAME])


# Killed


@pytest.mark.parametrize("has_one", [False, True])
def test_a_pull_that_is_killed_at_any_step_leaves_whole_bundles_and_the_next_one_works(
    plant: Plant, station: Station, tmp_path: Path, has_one: bool
) -> None:
    start = tmp_path / "data"
    start.mkdir(exist_ok=True)
    if has_one:
        station.pull()
    plant.publish("2.0.0")
    root = station.settings.root_file
    steps = kill_at_each_step(pull_into, start, tmp_path / "killed", station.settings.url, root)
    assert "half a copy" in steps
    assert sum(step == "socket.connect" for step in steps) == (5 if has_one else 6)
    assert sum(step.startswith("os.rename /bundles") for step in steps) == 1
    digests = {Bundle.open(plant.bundle(version)).digest for version in ("1.0.0", "2.0.0")}
    for number, step in enumerate(steps, start=1):
        left = Station(tmp_path / "killed" / str(number), station.settings.url, root)
        assert {Bundle.open(path).digest for path in left.stored().values()} <= digests, step
        assert not has_one or FIRST in left.stored(), step
        assert left.version() == "2.0.0", step
        assert SECOND in left.stored(), step
        assert left.leftovers() == [], step


# By hand


def test_a_pull_by_hand_says_what_came(
    station: Station,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "agent.toml"
    source = '[cameras.left.source]\nkind = "folder"\npath = "/images"\n'
    settings = station.settings
    channel = f'[channel]\nurl = "{settings.url}"\nroot_file = "{settings.root_file}"\n'
    config.write_text(f'data_dir = "{tmp_path}/data"\n{channel}bundles = ["{NAME}"]\n{source}')

    def run(*options: str) -> str:
        monkeypatch.setattr(
            sys, "argv", ["ssn-agent", "bundle", "pull", "-c", str(config), *options]
        )
        with pytest.raises(SystemExit):
            cli.main()
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert f"{NAME} 1.0.0 is to be fetched" in run("--check")
    assert station.stored() == {}
    assert f"{NAME} 1.0.0 fetched: {tmp_path}/data/bundles/{FIRST}" in run()
    assert f"{NAME} 1.0.0 is here" in run()
    looked: list[Path] = []
    monkeypatch.setattr(cli, "look_now", looked.append)
    run("--check")
    assert looked == []
    run()
    assert len(looked) == 1  # the agent that runs there is told
    config.write_text(source)
    assert "channel: not set" in run()
