"""The metadata of a channel, read as its readers find it and verified before anything builds on it.

Whoever can write to the served folder must not have a publisher sign what was put there. So a
publisher trusts as a station does: it begins with a root that is kept beside the keys, and takes no
version that is older than the one noted there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from ssn_contract.channel import ChannelName
from ssn_trainer.errors import PublishError
from ssn_trainer.publish.keys import KeyFolders, key_name

CHANNELS: tuple[ChannelName, ...] = get_args(ChannelName)
TARGETS_ROLES = (*CHANNELS, "targets")
SIGNED_FIRST = (*TARGETS_ROLES, "snapshot", "timestamp", "root")
"""All roles, in the order in which they are signed and written."""
LIFE_DAYS: dict[str, int] = {
    "root": 365,
    "targets": 365,
    "stable": 180,
    "canary": 180,
    "snapshot": 30,
    "timestamp": 7,
}
METADATA, TARGETS = "metadata", "targets"
T = TypeVar("T", Root, Targets, Snapshot, Timestamp)


@dataclass
class State:
    """The metadata of all roles."""

    root: Metadata[Root] = field(default_factory=lambda: Metadata(Root()))
    targets: dict[str, Metadata[Targets]] = field(
        default_factory=lambda: {role: Metadata(Targets()) for role in TARGETS_ROLES}
    )
    snapshot: Metadata[Snapshot] = field(default_factory=lambda: Metadata(Snapshot()))
    timestamp: Metadata[Timestamp] = field(default_factory=lambda: Metadata(Timestamp()))

    def of(self, role: str) -> Metadata[Any]:
        """Return a role's metadata."""
        own: dict[str, Metadata[Any]] = {
            "root": self.root,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return own[role] if role in own else self.targets[role]

    def delegator(self, role: str) -> Root | Targets:
        """Return what says whose signatures count for a role."""
        return self.targets["targets"].signed if role in CHANNELS else self.root.signed

    def keyids(self, role: str) -> list[str]:
        """Return the keys whose signatures count for a role."""
        return self.delegator(role).get_delegated_role(role).keyids

    def key_names(self, role: str) -> list[str]:
        """Return what they are called."""
        return [key_name(key_role(role), keyid) for keyid in self.keyids(role)]


def key_role(role: str) -> str:
    """Return whose keys sign for a role: the root keys say who signs for the channels."""
    return "root" if role == "targets" else role


def load(folder: Path, keys: KeyFolders | None, *, restored: bool = False) -> State:
    """Read a channel, beginning with the root beside the keys; without keys, with its own first.

    Raises PublishError where it is not what its keys have signed, or older than what was signed
    with these last, unless it was `restored` so on purpose. Expiry is the readers' matter.
    """
    new = State(root=_newest_root(folder, None if keys is None else keys.trusted_root()))
    new.timestamp = _read(folder / METADATA / "timestamp.json", Timestamp)
    _verify(folder, "timestamp", new)
    new.snapshot = _named(folder, "snapshot", Snapshot, new.timestamp.signed.snapshot_meta)
    _verify(folder, "snapshot", new)
    for role in reversed(TARGETS_ROLES):
        meta = new.snapshot.signed.meta.get(f"{role}.json")
        if meta is None:
            msg = f"{folder}: its snapshot does not name {role}; this is no channel of ours"
            raise PublishError(msg)
        new.targets[role] = _named(folder, role, Targets, meta)
        _verify(folder, role, new)
    if keys is not None and not restored:
        _check_not_older(folder, new, keys.noted())
    return new


def history(folder: Path, state: State, channel: str) -> list[Targets]:
    """Return all that a channel ever named, oldest first. Raises PublishError."""
    versions = range(1, state.of(channel).signed.version + 1)
    return [_read(folder / METADATA / f"{v}.{channel}.json", Targets).signed for v in versions]


def is_signed(role: str, metadata: Metadata[Any], judge: Root | Targets) -> bool:
    """Say whether enough of the keys have signed that count by `judge`."""
    try:
        judge.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        return False
    return True


def _check_not_older(folder: Path, state: State, noted: Mapping[str, int]) -> None:
    """Refuse what was signed once and is over: to sign it anew would make it count again."""
    for role in SIGNED_FIRST:
        version = state.of(role).signed.version
        if version < noted.get(role, version):
            msg = (
                f"{folder}: its {role} is version {version}, and {noted[role]} was signed from "
                "here already: nothing is built on an older copy. Find out who changed the "
                "folder, and put its newest copy in its place; where this is the newest that is "
                "left, `ssn-trainer channel revoke` the timestamp's key with --restored"
            )
            raise PublishError(msg)


def _newest_root(folder: Path, trusted: Path | None) -> Metadata[Root]:
    """Follow the chain of roots, each signed as itself and the one before it demand."""
    names = [path.name for path in (folder / METADATA).glob("*.root.json")]
    versions = sorted(int(v) for name in names if (v := name.partition(".")[0]).isdigit())
    if not versions:
        msg = f"{folder}: no channel is there; make one with `ssn-trainer channel init`"
        raise PublishError(msg)
    root = _read(trusted or folder / METADATA / f"{versions[0]}.root.json", Root)
    for version in range(root.signed.version + 1, versions[-1] + 1):
        path = folder / METADATA / f"{version}.root.json"
        new = _read(path, Root)
        if new.signed.version != version or not (
            is_signed("root", new, root.signed) and is_signed("root", new, new.signed)
        ):
            raise _not_signed(path)
        root = new
    return root


def _named(folder: Path, role: str, kind: type[T], meta: MetaFile) -> Metadata[T]:
    """Read the file that other metadata names, by version, length and digest."""
    path = folder / METADATA / f"{meta.version}.{role}.json"
    metadata = _read(path, kind, meta)
    if metadata.signed.version != meta.version:
        raise _not_signed(path)
    return metadata


def _verify(folder: Path, role: str, state: State) -> None:
    if not is_signed(role, state.of(role), state.delegator(role)):
        raise _not_signed(folder / METADATA / f"{role}.json")


def _read(path: Path, kind: type[T], meta: MetaFile | None = None) -> Metadata[T]:
    try:
        data = path.read_bytes()
        if meta is not None:
            meta.verify_length_and_hashes(data)
        metadata = Metadata[kind].from_bytes(data)  # type: ignore[valid-type]  # one class a role
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); put the channel's backup in its place"
        raise PublishError(msg) from error
    except LengthOrHashMismatchError as error:
        raise _not_signed(path) from error
    except RepositoryError as error:
        msg = f"{path}: not TUF metadata ({error}); put the channel's backup in its place"
        raise PublishError(msg) from error
    if not isinstance(metadata.signed, kind):
        raise _not_signed(path)
    return metadata


def _not_signed(path: Path) -> PublishError:
    return PublishError(
        f"{path}: not what the channel's keys have signed: nothing is built on it. Find out who "
        "changed the folder, and put the channel's backup in its place"
    )
