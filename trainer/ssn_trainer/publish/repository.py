"""The files of a channel's folder: a TUF repository, read as published and changed as a whole.

    metadata/N.root.json          every version is kept: old stations follow the chain
    metadata/N.targets.json       who may sign for which channel; signed by the root keys
    metadata/N.stable.json        what the channel names at present (N.canary.json likewise)
    metadata/N.snapshot.json      which versions of those belong together
    metadata/timestamp.json       which snapshot is the present one
    targets/stable/DIGEST.NAME.ssn

A change is signed as a whole before anything is written, and `timestamp.json`, which is replaced at
once, makes it seen. What a killed change left behind is overwritten by the next one: versions are
counted from what the timestamp names. Last, the versions are noted beside the keys: by them an
older folder is known. Noted before, they would have a folder refused that a killed change left as
it was. Where one is killed before the note, the folder is newer than that, as it also is where
another publisher was at work. A new root is written first where it holds for what is there
(it adds keys), else last, where what is new holds for the root before (it drops keys): a key is
replaced by adding one and then dropping the other.
"""

import copy
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import MetaFile
from tuf.api.serialization.json import JSONSerializer

from ssn_agent.atomic import write_atomically
from ssn_trainer.errors import PublishError
from ssn_trainer.publish.keys import KeyFolders
from ssn_trainer.publish.state import (
    LIFE_DAYS,
    METADATA,
    SIGNED_FIRST,
    TARGETS,
    State,
    is_signed,
    key_role,
)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep other commands from changing a channel, and remove what a killed one left half written.

    Raises PublishError where one is at it, or no channel is there.
    """
    if not (folder / METADATA).is_dir():
        msg = f"{folder}: no channel is there; make one with `ssn-trainer channel init`"
        raise PublishError(msg)
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        msg = f"{folder}: cannot be changed ({error.strerror}); check its permissions"
        raise PublishError(msg) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"{folder}: another command is changing this channel; wait for it, and try again"
            raise PublishError(msg) from error
        for pattern in (f"{METADATA}/.*.json.*", f"{TARGETS}/*/.*.ssn.*"):
            for path in folder.glob(pattern):
                path.unlink()
        yield
    finally:
        os.close(lock)


def commit(
    folder: Path,
    old: State | None,
    new: State,
    keys: KeyFolders,
    now: datetime,
    renew: Mapping[str, int] | None = None,
) -> None:
    """Sign what has changed since `old`, and what is to be renewed for so many days; write it.

    `new` is brought up to date. Raises PublishError where a key is not there that is needed.
    """
    renew = renew or {}
    files: list[tuple[str, bytes]] = []
    signed: list[str] = []
    for role in SIGNED_FIRST:
        if old is not None and role not in renew and not _changed(role, old, new):
            continue
        metadata = new.of(role)
        life = timedelta(days=renew.get(role, LIFE_DAYS[role]))
        metadata.signed.expires = now.replace(microsecond=0) + life
        metadata.signed.version = 1 if old is None else old.of(role).signed.version + 1
        _sign(role, old, new, keys)
        data = metadata.to_bytes(JSONSerializer())
        version = metadata.signed.version
        meta = MetaFile.from_data(version, data, ["sha256"])
        if role in new.targets:
            new.snapshot.signed.meta[f"{role}.json"] = meta
        elif role == "snapshot":
            new.timestamp.signed.snapshot_meta = meta
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        files.append((name, data))
        signed.append(role)
    if old is not None and "root" in signed and _holds(new, old):
        files.insert(0, files.pop())
    keys.save()
    for name, data in files:
        write(folder / METADATA / name, data)
    if old is None:
        keys.trust(dict(files)["1.root.json"])
    keys.note({role: new.of(role).signed.version for role in SIGNED_FIRST})


def write(path: Path, data: bytes) -> None:
    """Write a file that readers find whole or not at all. Raises PublishError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); readers see the channel as it was"
        raise PublishError(msg) from error


def copy_of(state: State) -> State:
    """Return a state to be changed."""
    return copy.deepcopy(state)


def _holds(new: State, old: State) -> bool:
    """Say whether what is there is signed as the new root wants it."""
    roles = ("targets", "snapshot", "timestamp")
    return all(is_signed(role, old.of(role), new.root.signed) for role in roles)


def _changed(role: str, old: State, new: State) -> bool:
    return bool(old.of(role).signed != new.of(role).signed) or old.keyids(role) != new.keyids(role)


def _sign(role: str, old: State | None, new: State, keys: KeyFolders) -> None:
    """Sign by those of the keys that are there. Raises PublishError where they are too few."""
    metadata = new.of(role)
    metadata.signatures.clear()
    for signer in keys.open(key_role(role), new.keyids(role)):
        metadata.sign(signer, append=True)
    for judge in [old, new] if old is not None and role == "root" else [new]:
        if not is_signed(role, metadata, judge.delegator(role)):
            threshold = judge.delegator(role).get_delegated_role(role).threshold
            names = ", ".join(f"{name}.pem" for name in judge.key_names(role))
            msg = (
                f"{role} needs {threshold} of these keys, and too few of them are there: {names}; "
                "name the folders that have them, each with --keys"
            )
            raise PublishError(msg)
