"""What can be done to a channel's folder; each says what it did and what is to be done next."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Delegations, TargetFile

from ssn_agent.bundles.archive import Bundle
from ssn_contract.channel import ChannelBundle, ChannelName, target_path
from ssn_trainer.errors import PublishError, UsageError
from ssn_trainer.publish.keys import ROOT_FILE, VERSIONS_FILE, KeyFolders, key_name
from ssn_trainer.publish.repository import changing, commit, copy_of, write
from ssn_trainer.publish.state import CHANNELS, LIFE_DAYS, METADATA, TARGETS, State, history, load

KEY_ROLES = ("root", *CHANNELS, "snapshot", "timestamp")
ADDED = "x-ssn-added-root-key"
"""A field of the root while a root key is being replaced: the new one. The old one counts, too."""
REFRESH = "have a timer run `ssn-trainer channel refresh timestamp` daily, where its key is"


@dataclass(frozen=True)
class Done:
    """What was done, the metadata after it, and what is left to people."""

    did: str
    state: State
    todo: Sequence[str] = ()


def init(folder: Path, keys: KeyFolders, root_keys: int, threshold: int, now: datetime) -> Done:
    """Make an empty channel with new keys. Raises PublishError, UsageError."""
    if not 1 <= threshold <= root_keys:
        msg = f"--threshold {threshold}: give 1 to {root_keys}, the number of root keys"
        raise UsageError(msg)
    try:
        (folder / METADATA).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot be made ({error.strerror}); name another folder"
        raise PublishError(msg) from error
    with changing(folder):
        if any((folder / METADATA).glob("*.root.json")):
            msg = f"{folder}: a channel is there already; name another folder"
            raise PublishError(msg)
        new = State()
        new.targets["targets"].signed.delegations = Delegations(
            {},
            {c: DelegatedRole(c, [], 1, terminating=True, paths=[f"{c}/*.ssn"]) for c in CHANNELS},
        )
        for role in ("root",) * root_keys + KEY_ROLES[1:]:
            _add_key(new, role, keys)
        for role in ("root", "targets"):
            new.root.signed.roles[role].threshold = threshold
        commit(folder, None, new, keys, now)
        first_root = folder / METADATA / "1.root.json"
    roots = ", ".join(f"{name}.pem" for name in new.key_names("root"))
    return Done(
        f"{folder}: an empty channel; {threshold} of {root_keys} root keys say who may sign",
        new,
        [
            f"give each station {first_root} by hand, as channel.root_file",
            f"keep {ROOT_FILE} and {VERSIONS_FILE} beside the keys: a command goes by them",
            f"move {roots} to media of their own, offline, each with its holder; keep copies",
            REFRESH,
        ],
    )


def publish(
    folder: Path, path: Path, channel: ChannelName, keys: KeyFolders, now: datetime
) -> Done:
    """Have a channel name this bundle. Raises PublishError, BundleError."""
    return _publish(folder, Bundle.open(path), channel, keys, now)


def _publish(
    folder: Path, bundle: Bundle, channel: ChannelName, keys: KeyFolders, now: datetime
) -> Done:
    path = bundle.path
    with changing(folder):
        old = load(folder, keys)
        what = f"{channel}: {bundle.manifest.name} {bundle.manifest.version}"
        target = _target(bundle, channel, path)
        if old.targets[channel].signed.targets.get(target.path) == target:
            return Done(f"{what} is what the channel names already; nothing was changed", old)
        _check_version_is_new(folder, old, bundle)
        new = copy_of(old)
        new.targets[channel].signed.targets[target.path] = target
        stored = folder / TARGETS / target.get_prefixed_paths()[0]
        write(stored, _same_bytes(bundle, path))
        commit(folder, old, new, keys, now)
    todo = [f"promote it when it has proven itself: ssn-trainer channel promote {bundle.ref.name}"]
    return Done(
        f"{what} ({bundle.digest[:12]}) is published", new, todo if channel == "canary" else ()
    )


def promote(folder: Path, name: str, keys: KeyFolders, now: datetime) -> Done:
    """Have `stable` name the bundle that `canary` names. Raises PublishError, BundleError."""
    canary = load(folder, keys).targets["canary"].signed
    target = canary.targets.get(target_path("canary", name))
    if target is None:
        msg = f"canary names no bundle {name}; publish it there first"
        raise PublishError(msg)
    stored = folder / TARGETS / target.get_prefixed_paths()[0]
    bundle = Bundle.open(stored)
    if bundle.digest != target.hashes.get("sha256"):
        msg = f"{stored}: not the bundle that canary names; find out who changed the folder"
        raise PublishError(msg)
    return _publish(folder, bundle, "stable", keys, now)


def rotate(folder: Path, key: str, keys: KeyFolders, now: datetime) -> Done:
    """Put a new key in a key's place. Raises PublishError.

    Where another command was killed between adding a root key and dropping the old one, the key
    that it has added is taken. Of other roles all keys go, such a one among them.
    """
    with changing(folder):
        old = load(folder, keys)
        role, keyid = _find_key(old, key)
        added = old.root.signed.unrecognized_fields.get(ADDED)
        if role == "root" and keyid == added:
            msg = f"{key}: was added by a rotation that was not finished; run that one again, for "
            msg += f"the key that is to go, or take this one away with `channel revoke {key}`"
            raise PublishError(msg)
        if role == "root" and added is not None:
            new, made = copy_of(old), key_name("root", added)
            _drop_key(new, role, keyid)
            del new.root.signed.unrecognized_fields[ADDED]
            commit(folder, old, new, keys, now)
        else:
            dropped = [keyid] if role == "root" else old.keyids(role)
            new, [made] = _exchange(folder, old, {role: dropped}, keys, now)
    todo = [f"destroy {key}.pem and its copies: nothing it signs from now on is taken"]
    if role == "root":
        todo.append(f"move {made}.pem to media of its own, offline, with its holder")
    return Done(f"{key} is replaced by {made}; stations follow at their next pull", new, todo)


def revoke(
    folder: Path, key: str, keys: KeyFolders, now: datetime, *, restored: bool = False
) -> Done:
    """Take the trust from a key that is in wrong hands. Raises PublishError.

    A root key goes without another in its place. Of another role a new one comes, and new ones for
    snapshot and timestamp: by these a station forgets which versions it has seen, and with that
    what the key may have had it take (TUF specification, 5.3.11). So this is the one change that
    may begin with a folder that was `restored` from an older backup: stations follow it again.
    """
    with changing(folder):
        old = load(folder, keys, restored=restored)
        role, keyid = _find_key(old, key)
        if role == "root":
            made: list[str] = []
            new = copy_of(old)
            _drop_key(new, role, keyid)
            threshold = new.root.signed.roles["root"].threshold
            if len(new.keyids("root")) < threshold:
                msg = f"{key}: without it there are fewer root keys than the {threshold} that must"
                msg += f" sign; put a new one in its place with `channel rotate {key}`"
                raise PublishError(msg)
            if new.root.signed.unrecognized_fields.get(ADDED) == keyid:
                del new.root.signed.unrecognized_fields[ADDED]
            commit(folder, old, new, keys, now)
        else:
            roles = dict.fromkeys((role, "snapshot", "timestamp"))
            new, made = _exchange(folder, old, {r: old.keyids(r) for r in roles}, keys, now)
    did = f"{key} is trusted no more" + (f"; new keys: {', '.join(made)}" if made else "")
    todo = ["destroy its file and copies", "find out what it has signed meanwhile"]
    if role in CHANNELS:
        todo.append(f"look at what {role} names (channel status), and publish what is right")
    return Done(did, new, todo)


def _exchange(
    folder: Path, old: State, gone: Mapping[str, Sequence[str]], keys: KeyFolders, now: datetime
) -> tuple[State, list[str]]:
    """Give roles a new key each, then drop the keys that are to go; return the new ones' names.

    In between both count: so what is there holds at any time, also where the old key is lost.
    """
    both = copy_of(old)
    made = [_add_key(both, role, keys) for role in gone]
    if "root" in gone:
        both.root.signed.unrecognized_fields[ADDED] = both.keyids("root")[-1]
    commit(folder, old, both, keys, now)
    new = copy_of(both)
    for role, keyids in gone.items():
        for keyid in list(keyids):
            _drop_key(new, role, keyid)
    if "root" in gone:
        del new.root.signed.unrecognized_fields[ADDED]
    commit(folder, both, new, keys, now)
    return new, made


def refresh(
    folder: Path, roles: Sequence[str], days: int | None, keys: KeyFolders, now: datetime
) -> Done:
    """Sign roles anew, for their usual time or so many days. Raises PublishError, UsageError."""
    strange = sorted(set(roles) - set(LIFE_DAYS))
    if strange:
        msg = f"{strange[0]}: no such role; use {', '.join(LIFE_DAYS)}"
        raise UsageError(msg)
    with changing(folder):
        old = load(folder, keys)
        new = copy_of(old)
        renew = {role: days or LIFE_DAYS[role] for role in roles}
        commit(folder, old, new, keys, now, renew)
    return Done(f"signed anew: {', '.join(renew)}", new)


def _target(bundle: Bundle, channel: ChannelName, path: Path) -> TargetFile:
    manifest = bundle.manifest
    said = ChannelBundle(
        version=manifest.version, manifest_schema_version=manifest.schema_version
    ).model_dump()
    return TargetFile(
        path.stat().st_size,
        {"sha256": bundle.digest},
        target_path(channel, manifest.name),
        {"custom": said},
    )


def _same_bytes(bundle: Bundle, path: Path) -> bytes:
    """Return the file as it was verified."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != bundle.digest:
        msg = f"{path}: was changed while it was read; publish it when it is finished"
        raise PublishError(msg)
    return data


def _check_version_is_new(folder: Path, state: State, bundle: Bundle) -> None:
    """Refuse a second bundle of the same name and version: people tell bundles apart by those."""
    for channel in CHANNELS:
        path = target_path(channel, bundle.manifest.name)
        for past in history(folder, state, channel):
            target = past.targets.get(path)
            if target is None or target.hashes["sha256"] == bundle.digest:
                continue
            if ChannelBundle.model_validate(target.custom).version == bundle.manifest.version:
                msg = (
                    f"{bundle.path}: another {bundle.manifest.name} {bundle.manifest.version} was "
                    f"published in {channel}; give this one a version of its own (fit "
                    "--bundle-version)"
                )
                raise PublishError(msg)


def _find_key(state: State, key: str) -> tuple[str, str]:
    names = {
        name: (role, keyid)
        for role in KEY_ROLES
        for name, keyid in zip(state.key_names(role), state.keyids(role), strict=True)
    }
    if key not in names:
        msg = f"{key}: no key of this channel; they are {', '.join(names)}"
        raise PublishError(msg)
    return names[key]


def _signed_by(role: str) -> tuple[str, ...]:
    return ("root", "targets") if role == "root" else (role,)


def _add_key(state: State, role: str, keys: KeyFolders) -> str:
    """Make a key for a role, and return what it is called."""
    public = keys.make(role).public_key
    for one in _signed_by(role):
        state.delegator(one).add_key(public, one)
    return key_name(role, public.keyid)


def _drop_key(state: State, role: str, keyid: str) -> None:
    for one in _signed_by(role):
        state.delegator(one).revoke_key(keyid, one)
