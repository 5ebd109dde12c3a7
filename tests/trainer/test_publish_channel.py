"""A channel changes as a whole, by the keys that may, and says what it did and what comes next."""

import contextlib
import io
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ssn_agent.errors import BundleError, PassphraseError
from ssn_contract.channel import ChannelName
from ssn_trainer.errors import PublishError, UsageError
from ssn_trainer.publish import channel as work
from ssn_trainer.publish.keys import KeyFolders, Passphrases
from ssn_trainer.publish.repository import changing
from ssn_trainer.publish.state import CHANNELS, LIFE_DAYS
from support.bundles import write_brightness_bundle
from support.channels import (
    NAME,
    Plant,
    Station,
    now,
    publish_into,
    rewrite,
    rotate_into,
    static_files,
)
from support.killed import kill_at_each_step

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant.made(tmp_path / "plant")


def names(plant: Plant, channel: ChannelName = "stable") -> str | None:
    """Return the version that a channel names."""
    target = plant.state().targets[channel].signed.targets.get(f"{channel}/{NAME}.ssn")
    return None if target is None else str((target.custom or {})["version"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def key_folders(plant: Plant, *folders: Path) -> KeyFolders:
    return KeyFolders(folders, Passphrases(plant.passphrases))


def apart(plant: Plant, *key_names: str) -> Path:
    """Move keys to a folder of their own, as to a holder's stick."""
    stick = plant.home / "-".join(key_names)
    stick.mkdir()
    for name in key_names:
        (plant.key_dir / f"{name}.pem").rename(stick / f"{name}.pem")
    return stick


# Keys


def test_every_key_is_encrypted_and_for_its_owner_alone(plant: Plant) -> None:
    files = sorted(plant.key_dir.glob("*.pem"))
    assert len(files) == 3 + len(work.KEY_ROLES) - 1
    for file in files:
        assert file.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(plant.key_dir.stat().st_mode) == 0o700


def test_a_key_opens_by_its_own_passphrase_or_by_its_roles(plant: Plant) -> None:
    [name] = plant.state().key_names("timestamp")
    own = plant.passphrases / name
    own.write_text("another passphrase")
    own.chmod(0o600)
    with pytest.raises(PublishError, match="a wrong passphrase") as caught:
        work.refresh(plant.folder, ["timestamp"], None, plant.keys(), now())
    assert f"{name}.pem" in str(caught.value)
    own.unlink()
    work.refresh(plant.folder, ["timestamp"], None, plant.keys(), now())


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("long enough a text", 0o644, "others may read this passphrase; chmod 600 it"),
        ("short", 0o600, "takes 12 to 1024 bytes"),
        ("x" * 1025, 0o600, "takes 12 to 1024 bytes"),
    ],
)
def test_a_passphrase_that_is_short_or_read_by_others_is_refused(
    plant: Plant, text: str, mode: int, words: str
) -> None:
    file = plant.passphrases / "timestamp"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(PassphraseError, match=words):
        work.refresh(plant.folder, ["timestamp"], None, plant.keys(), now())


def test_on_a_terminal_a_passphrase_is_asked_for_and_not_shown(plant: Plant) -> None:
    options = ["--channel", str(plant.folder), "--keys", str(plant.key_dir)]
    command = [sys.executable, "-m", "ssn_trainer.cli", "channel", "refresh", "timestamp", *options]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)  # noqa: S606 -- with a terminal of its own
    shown = b""
    with open(terminal, "r+b", buffering=0) as screen:  # noqa: PTH123 -- a descriptor
        while not shown.endswith(b": "):  # the last of it comes when nothing is shown any more
            shown += screen.read(1024)
        screen.write(b"the passphrase of timestamp\n")
        with contextlib.suppress(OSError):  # the other end is closed
            while data := screen.read(1024):
                shown += data
    assert os.waitpid(child, 0)[1] == 0, shown
    assert b"Passphrase of timestamp-" in shown
    assert b"the passphrase" not in shown
    assert plant.state().timestamp.signed.version == 2


def test_without_a_terminal_a_missing_passphrase_is_named(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    keys = KeyFolders([plant.key_dir], Passphrases())
    with pytest.raises(PassphraseError, match=r"no passphrase of snapshot-.*--passphrases"):
        work.refresh(plant.folder, ["snapshot"], None, keys, now())


def test_a_damaged_key_file_is_named(plant: Plant) -> None:
    [name] = plant.state().key_names("timestamp")
    (plant.key_dir / f"{name}.pem").write_text("no key")
    with pytest.raises(PublishError, match=rf"{name}\.pem: does not open"):
        work.refresh(plant.folder, ["timestamp"], None, plant.keys(), now())


def test_a_key_file_under_another_keys_name_is_refused(plant: Plant) -> None:
    [one, other, _] = plant.state().key_names("root")
    (plant.key_dir / f"{one}.pem").replace(plant.key_dir / f"{other}.pem")
    with pytest.raises(PublishError, match="holds another key than its name says"):
        work.refresh(plant.folder, ["root"], None, plant.keys(), now())


# Publishing


def test_a_bundle_is_published_in_canary_and_promoted(plant: Plant) -> None:
    plant.publish("1.0.0", "canary")
    assert (names(plant, "canary"), names(plant)) == ("1.0.0", None)
    done = work.promote(plant.folder, NAME, plant.keys(), now())
    assert done.did.startswith(f"stable: {NAME} 1.0.0")
    assert names(plant) == "1.0.0"


def test_what_canary_does_not_name_is_not_promoted(plant: Plant) -> None:
    with pytest.raises(PublishError, match="canary names no bundle brightness; publish it there"):
        work.promote(plant.folder, NAME, plant.keys(), now())


def test_the_same_bundle_again_changes_nothing(plant: Plant) -> None:
    plant.publish("1.0.0")
    before = contents(plant.folder)
    assert "nothing was changed" in plant.publish("1.0.0").did
    assert contents(plant.folder) == before


def test_a_version_is_never_given_twice(plant: Plant) -> None:
    plant.publish("1.0.0", "canary")
    plant.publish("2.0.0", "canary")
    other = write_brightness_bundle(plant.home / "other.ssn", version="1.0.0", backbone="other")
    with pytest.raises(PublishError, match=r"another brightness 1\.0\.0 was published in canary"):
        work.publish(plant.folder, other, "stable", plant.keys(), now())
    plant.publish("1.0.0")


def test_what_an_agent_would_refuse_is_not_published(plant: Plant) -> None:
    before = contents(plant.folder)
    bundle = plant.bundle("1.0.0")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BundleError):
        plant.publish("1.0.0")
    with zipfile.ZipFile(plant.bundle("2.0.0")) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = {**json.loads(entries["manifest.json"]), "schema_version": 2}
    with zipfile.ZipFile(plant.bundle("2.0.0"), "w") as archive:
        for name, content in {**entries, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="not one this version reads"):
        plant.publish("2.0.0")
    assert contents(plant.folder) == before


def test_a_key_that_is_not_there_is_named_and_nothing_changes(plant: Plant) -> None:
    [name] = plant.state().key_names("stable")
    apart(plant, name)
    before = contents(plant.folder / "metadata")
    with pytest.raises(PublishError, match=rf"stable needs 1 of .*{name}\.pem.*--keys"):
        plant.publish("1.0.0")
    assert contents(plant.folder / "metadata") == before


def test_only_one_command_changes_a_channel_at_a_time(plant: Plant) -> None:
    with (
        changing(plant.folder),
        pytest.raises(PublishError, match="another command is changing this channel"),
    ):
        plant.publish("1.0.0")


def test_a_folder_without_a_channel_is_named(tmp_path: Path, plant: Plant) -> None:
    with pytest.raises(PublishError, match="no channel is there"):
        work.publish(tmp_path, plant.bundle("1.0.0"), "stable", plant.keys(), now())
    assert not (tmp_path / ".lock").exists()


def test_a_channel_is_not_made_over_another(plant: Plant) -> None:
    with pytest.raises(PublishError, match="a channel is there already"):
        work.init(plant.folder, plant.keys(), 3, 2, now())


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_nobody_can_reach_is_refused(plant: Plant, threshold: int) -> None:
    with pytest.raises(UsageError, match="give 1 to 3"):
        work.init(plant.home / "new", plant.keys(), 3, threshold, now())


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable", "canary"])
def test_nothing_is_built_on_what_somebody_else_wrote_into_the_folder(
    plant: Plant, role: str
) -> None:
    plant.publish("1.0.0")
    version = plant.state().of(role).signed.version
    name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
    rewrite(plant.metadata / name, version=version, extra="not signed")
    before = contents(plant.folder)
    with pytest.raises(PublishError, match="not what the channel's keys have signed"):
        plant.publish("2.0.0", "canary")
    assert contents(plant.folder) == before


def test_nothing_is_signed_for_a_channel_of_other_root_keys(plant: Plant) -> None:
    """Which may name our keys beside its own, to have us sign what it was given."""
    other = Plant.made(plant.home / "other")
    shutil.rmtree(plant.folder)
    other.folder.rename(plant.folder)
    with pytest.raises(PublishError, match="not what the channel's keys have signed"):
        plant.publish("1.0.0")


def test_a_bundle_that_was_exchanged_in_the_folder_is_not_promoted(plant: Plant) -> None:
    plant.publish("1.0.0", "canary")
    [stored] = (plant.folder / "targets" / "canary").iterdir()
    shutil.copy(plant.bundle("6.6.6"), stored)
    with pytest.raises(PublishError, match="not the bundle that canary names"):
        work.promote(plant.folder, NAME, plant.keys(), now())


def rolled_back(plant: Plant, to: ChannelName = "stable") -> None:
    """Have who can write to the folder put back what was signed before the present bundle."""
    before = plant.home / "before"
    shutil.copytree(plant.metadata, before)
    plant.publish("2.0.0", to)
    shutil.rmtree(plant.metadata)
    before.rename(plant.metadata)


@pytest.mark.parametrize("role", ["timestamp", "root"])
def test_what_was_signed_once_and_is_over_is_not_signed_again(plant: Plant, role: str) -> None:
    plant.publish("1.0.0")
    rolled_back(plant)
    before = contents(plant.home)
    with pytest.raises(PublishError, match=r"is version 2, and 3 was signed .* its newest copy"):
        work.refresh(plant.folder, [role], None, plant.keys(), now())
    assert contents(plant.home) == before


def test_an_older_set_is_known_by_each_role_and_not_by_its_timestamp_alone(plant: Plant) -> None:
    """Who has the timestamp's key can make its version as high as can be."""
    plant.publish("1.0.0")
    rolled_back(plant)
    forged = plant.state().timestamp
    forged.signed.version = 10**9
    [thief] = plant.keys().open("timestamp", plant.state().keyids("timestamp"))
    forged.sign(thief)
    (plant.metadata / "timestamp.json").write_bytes(forged.to_bytes())
    with pytest.raises(PublishError, match="its stable is version 2, and 3 was signed from here"):
        work.refresh(plant.folder, ["timestamp"], None, plant.keys(), now())


def test_a_root_that_is_taken_away_is_missed(plant: Plant) -> None:
    before = plant.home / "before"
    shutil.copytree(plant.metadata, before)
    plant.rotate("timestamp")
    shutil.rmtree(plant.metadata)
    before.rename(plant.metadata)
    (plant.key_dir / "versions.json").write_text('{"root": 3}')
    with pytest.raises(PublishError, match="its root is version 1, and 3 was signed from here"):
        plant.publish("1.0.0")


def test_a_publisher_that_was_away_goes_on_from_what_another_has_signed(plant: Plant) -> None:
    shutil.copytree(plant.key_dir, plant.home / "others")
    others = key_folders(plant, plant.home / "others")
    plant.publish("1.0.0")
    work.refresh(plant.folder, ["timestamp"], None, others, now())
    assert (plant.state().timestamp.signed.version, names(plant)) == (3, "1.0.0")
    plant.publish("2.0.0")


def test_an_older_backup_is_gone_on_from_when_one_says_so(plant: Plant) -> None:
    plant.publish("1.0.0")
    rolled_back(plant)
    [key] = plant.state().key_names("timestamp")
    with pytest.raises(PublishError, match=r"revoke` the timestamp's key with --restored"):
        plant.revoke("timestamp")
    work.revoke(plant.folder, key, plant.keys(), now(), restored=True)
    plant.publish("3.0.0")
    assert names(plant) == "3.0.0"


def test_a_damaged_note_of_versions_is_named(plant: Plant) -> None:
    (plant.key_dir / "versions.json").write_text('{"root": "1"}')
    with pytest.raises(PublishError, match=r"versions\.json: damaged; delete it when you know"):
        plant.publish("1.0.0")


# Rotation, revocation, expiry


def test_root_keys_are_gathered_from_their_holders(plant: Plant) -> None:
    [one, two, three] = plant.state().key_names("root")
    sticks = [apart(plant, name) for name in (one, two, three)]
    before = contents(plant.home)
    with pytest.raises(PublishError, match="root needs 2 of these keys"):
        plant.rotate("timestamp")
    keys = KeyFolders([plant.key_dir, sticks[0]], Passphrases(plant.passphrases))
    [key] = plant.state().key_names("timestamp")
    with pytest.raises(PublishError, match="root needs 2 of these keys"):
        work.rotate(plant.folder, key, keys, now())
    assert contents(plant.home) == {**before, "channel/.lock": b""}
    keys = KeyFolders([plant.key_dir, *sticks[1:]], Passphrases(plant.passphrases))
    work.rotate(plant.folder, key, keys, now())
    assert plant.state().key_names("timestamp") != [key]


@pytest.mark.parametrize("role", work.KEY_ROLES)
def test_a_key_is_replaced_and_counts_no_more(plant: Plant, role: str) -> None:
    before = plant.state()
    [old, *others] = before.key_names(role)
    done = plant.rotate(role)
    after = plant.state()
    assert old not in after.key_names(role)
    assert len(after.key_names(role)) == len(before.key_names(role))
    assert set(others) < set(after.key_names(role))
    for other in set(work.KEY_ROLES) - {role}:
        assert after.key_names(other) == before.key_names(other)
    assert f"destroy {old}.pem" in done.todo[0]
    assert (after.root.signed.version == 1) == (role in CHANNELS)


def test_a_lost_key_is_replaced_like_any_other(plant: Plant) -> None:
    for role in ("root", "timestamp", "stable"):
        [lost, *_] = plant.state().key_names(role)
        (plant.key_dir / f"{lost}.pem").unlink()
        work.rotate(plant.folder, lost, plant.keys(), now())
        assert lost not in plant.state().key_names(role)
    plant.publish("1.0.0")


@pytest.mark.parametrize("role", ["stable", "snapshot", "timestamp"])
def test_with_a_key_in_wrong_hands_go_those_that_prove_freshness(plant: Plant, role: str) -> None:
    before = plant.state()
    plant.revoke(role)
    after = plant.state()
    for gone in {role, "snapshot", "timestamp"}:
        assert not set(before.key_names(gone)) & set(after.key_names(gone))
    assert after.key_names("root") == before.key_names("root")


def test_a_root_key_in_wrong_hands_goes_as_long_as_enough_are_left(plant: Plant) -> None:
    [gone, *left] = plant.state().key_names("root")
    plant.revoke("root")
    assert plant.state().key_names("root") == left
    assert plant.state().key_names("targets") == left
    with pytest.raises(PublishError, match=r"fewer root keys than the 2 .* `channel rotate root-"):
        plant.revoke("root")
    with pytest.raises(PublishError, match=f"{gone}: no key of this channel; they are root-"):
        work.rotate(plant.folder, gone, plant.keys(), now())


def half_rotated(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Begin to replace the first root key, to be killed between the two changes; return all."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, "_drop_key", killed)
        with pytest.raises(KeyboardInterrupt):
            plant.rotate("root")
    return plant.state().key_names("root")


@pytest.mark.parametrize("place", [0, 1])
def test_the_root_key_that_an_unfinished_rotation_added_is_taken_by_the_next_one(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Of the same key, or of another one."""
    both = half_rotated(plant, monkeypatch)
    work.refresh(plant.folder, ["root"], None, plant.keys(), now())
    plant.revoke("timestamp")
    gone = both.pop(place)
    done = work.rotate(plant.folder, gone, plant.keys(), now())
    assert f"{gone} is replaced by {both[-1]}" in done.did
    for role in ("root", "targets"):
        assert plant.state().key_names(role) == both
    plant.rotate("root")
    assert len(plant.state().key_names("root")) == 3


def test_the_root_key_that_an_unfinished_rotation_added_can_be_taken_away_again(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    [*before, added] = half_rotated(plant, monkeypatch)
    with pytest.raises(PublishError, match=f"{added}: was added by a rotation .* not finished"):
        work.rotate(plant.folder, added, plant.keys(), now())
    work.revoke(plant.folder, added, plant.keys(), now())
    assert plant.state().key_names("root") == before
    plant.rotate("root")
    assert len(plant.state().key_names("root")) == 3


@pytest.mark.parametrize("role", LIFE_DAYS)
def test_a_role_is_signed_anew_for_its_usual_time_or_for_so_many_days(
    plant: Plant, role: str
) -> None:
    for days in (None, 400):
        work.refresh(plant.folder, [role], days, plant.keys(), now())
        left = plant.state().of(role).signed.expires - now()
        assert abs(left - timedelta(days=days or LIFE_DAYS[role])) < timedelta(minutes=1)


def test_to_sign_the_timestamp_anew_takes_its_key_alone(plant: Plant) -> None:
    [name] = plant.state().key_names("timestamp")
    stick = apart(plant, name)
    with pytest.raises(PublishError, match=r"no root\.json there by which the channel is known"):
        work.refresh(plant.folder, ["timestamp"], None, key_folders(plant, stick), now())
    shutil.copy(plant.key_dir / "root.json", stick)
    keys = key_folders(plant, stick)
    work.refresh(plant.folder, ["timestamp"], None, keys, now())
    assert plant.state().timestamp.signed.version == 2


# Killed


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Plant, Station, Path, str]]:
    """A plant that has published 1.0.0, a station that has it, and what serves the copies."""
    plant = Plant.made(tmp_path / "plant")
    plant.publish("1.0.0")
    root = tmp_path / "root.json"
    root.write_bytes((plant.metadata / "1.root.json").read_bytes())
    with static_files(tmp_path) as url:
        station = Station(tmp_path / "data", f"{url}/plant/channel", root)
        station.pull()
        plant.bundle("2.0.0")
        yield plant, station, tmp_path, url


@pytest.mark.parametrize("role", [None, "timestamp", "root", "lost timestamp"])
def test_a_change_that_is_killed_at_any_step_leaves_a_channel_that_is_read_and_changed(
    started: tuple[Plant, Station, Path, str], role: str | None
) -> None:
    plant, station, folder, url = started
    out = folder / "killed"
    if role == "lost timestamp":
        [lost] = plant.state().key_names("timestamp")
        (plant.key_dir / f"{lost}.pem").unlink()
        role = "timestamp"
    work_, argument = (publish_into, "2.0.0") if role is None else (rotate_into, role)
    steps = kill_at_each_step(work_, plant.home, out, argument)
    changes = sum("timestamp.json" in step and "rename" in step for step in steps)
    assert changes == (1 if role is None else 2)
    assert sum("rename" in step and "versions.json" in step for step in steps) == changes
    for number, step in enumerate(steps, start=1):
        left = Plant(out / str(number))
        reader = Station(
            folder / "readers" / str(number),
            f"{url}/killed/{number}/channel",
            station.settings.root_file,
        )
        shutil.copytree(station.metadata, reader.metadata)
        assert reader.version() in ({"1.0.0", "2.0.0"} if role is None else {"1.0.0"}), step
        if role is not None:
            left.rotate(role)
        left.publish("2.0.0")
        assert [len(left.state().keyids(role)) for role in work.KEY_ROLES] == [3, 1, 1, 1, 1], step
        assert reader.version() == "2.0.0", step
        assert not [*left.folder.glob("metadata/.*"), *left.folder.glob("targets/*/.*")], step


# By hand


def test_commands_say_what_they_did_what_expires_and_what_comes_next(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plant = Plant(tmp_path)
    Plant.made(tmp_path / "other").passphrases.rename(plant.passphrases)
    at = ["--channel", plant.folder]
    signing = [*at, "--keys", plant.key_dir, "--passphrases", plant.passphrases]
    code, out, _ = run("channel", "init", *signing, "--root-keys", 1, "--threshold", 1)
    assert code == 0
    assert "an empty channel; 1 of 1 root keys say who may sign" in out
    assert "metadata/1.root.json by hand, as channel.root_file" in out
    assert "7.0 days" in out
    code, out, _ = run("publish", plant.bundle("1.0.0"), *signing)
    assert "canary: brightness 1.0.0" in out
    assert "next: promote it" in out
    assert run("channel", "promote", NAME, *signing)[0] == 0
    code, out, _ = run("channel", "status", *at)
    assert code == 0
    assert "stable" in out
    assert "1.0.0" in out
    [key] = plant.state().key_names("stable")
    assert f"{key} is replaced by stable-" in run("channel", "rotate", key, *signing)[1]
    [key] = plant.state().key_names("canary")
    assert f"{key} is trusted no more" in run("channel", "revoke", key, *signing)[1]
    assert "signed anew: snapshot, timestamp" in run("channel", "refresh", *signing)[1]
    code, _, err = run("channel", "refresh", "time", *signing)
    assert code == 2
    assert "time: no such role; use root, targets" in err


def test_status_says_what_has_expired_and_fails(tmp_path: Path, run: Run) -> None:
    plant = Plant.made(tmp_path / "plant", now() - timedelta(days=8))
    code, out, _ = run("channel", "status", "--channel", plant.folder)
    assert code == 1
    assert "timestamp has expired: stations pull nothing until" in out


def test_no_torch_is_needed_to_publish(plant: Plant) -> None:
    code = "import sys; sys.modules['torch'] = None; from ssn_trainer.cli import main; main()"
    options = ["--channel", plant.folder, "--keys", plant.key_dir, "--passphrases"]
    command = [sys.executable, "-c", code, "publish", plant.bundle("1.0.0"), *options]
    done = subprocess.run(
        [*map(str, command), str(plant.passphrases)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert names(plant, "canary") == "1.0.0"
