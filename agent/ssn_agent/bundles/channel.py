"""Pulling bundles from a channel, which is a TUF repository (docs/channels.md, ADR 14).

A pull goes in this order, and each step trusts what the one before has verified:

1. The store is locked; what a killed pull left half written is removed.
2. tuf's `Updater` begins with the root that was brought here by hand, follows the chain of roots,
   then reads timestamp, snapshot and targets: signatures, versions that never fall, expiry.
3. The channel's own role names its present bundle: length, digest, `ssn_contract.ChannelBundle`.
4. What is in the store with this digest stays. Else it is fetched beside its place, its length and
   digest are checked, then the bundle itself as `Bundle.open` does; then it gets its name. It takes
   the place of no other bundle that a camera has.
5. Bundles that are needed no more are deleted; all stay of a name that could not be pulled.

A pull that is killed anywhere leaves a store of whole, verified bundles, and the next one goes on.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.rules import announced
from ssn_agent.bundles.settings import ChannelSettings
from ssn_agent.bundles.store import Store
from ssn_agent.bundles.transfer import Transfer
from ssn_agent.errors import BundleError, ChannelError
from ssn_contract.channel import ChannelBundle, target_path

MAX_TIMESTAMP_BYTES = 16_384
_SHOWN = 300
_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (
        ExpiredMetadataError,
        (
            "is out of date: an old copy is served, nobody has signed it anew (`ssn-trainer "
            "channel refresh`), or this machine's clock is wrong"
        ),
    ),
    (
        BadVersionNumberError,
        (
            "serves an older version than before, or versions that do not belong together: have "
            "the server serve the channel's folder as it is, not a copy or a backup"
        ),
    ),
    (
        UnsignedMetadataError,
        (
            "serves metadata without enough signatures by keys that this station trusts: altered, "
            "of another channel, or a root_file that is not this channel's"
        ),
    ),
    (
        LengthOrHashMismatchError,
        (
            "serves a file that is not the signed one: altered or cut short; compare the server's "
            "copy with the channel's folder"
        ),
    ),
    (DownloadLengthMismatchError, "sends more than a file may have: look at the server"),
    (SlowRetrievalError, "is too slow: look at the network and the server"),
    (DownloadHTTPError, "does not give a file: check channel.url and what the server serves"),
    (DownloadError, "cannot be reached, or speaks no HTTP: check channel.url, network and server"),
    (RepositoryError, "serves what is no sound metadata: compare it with the channel's folder"),
)
"""What tuf raises, the particular before the general, in words."""


@dataclass(frozen=True)
class Pulled:
    """A bundle that the channel names."""

    name: str
    version: str
    digest: str
    """SHA-256 of the file, as it was signed."""
    path: Path
    """Its place in the store."""
    length: int
    is_new: bool
    """Whether the store did not have it."""


@dataclass(frozen=True)
class Look:
    """What a pull brought, and what is wrong with the others."""

    pulled: list[Pulled]
    problems: list[str]


def pull(
    settings: ChannelSettings,
    bundle_dir: Path,
    channel_dir: Path,
    in_use: Collection[Path] = (),
    *,
    fetch: bool = True,
) -> list[Pulled]:
    """Bring the store up to date with the channel; without `fetch` only say what it names.

    `in_use` are bundles that stay as they are whatever the channel says. A bundle that is refused
    keeps none of the others back. Raises ChannelError, saying of each what is wrong.
    """
    found = look(settings, bundle_dir, channel_dir, in_use, fetch=fetch)
    if found.problems:
        raise ChannelError("\n".join(found.problems))
    return found.pulled


def look(
    settings: ChannelSettings,
    bundle_dir: Path,
    channel_dir: Path,
    in_use: Collection[Path] = (),
    *,
    fetch: bool = True,
) -> Look:
    """Do as `pull`, and return what came beside what is wrong with the others.

    Raises ChannelError where nothing at all can be had.
    """
    found = Look([], [])
    try:
        with Store.opened(bundle_dir) as store:
            client = _Client(settings, store, channel_dir, in_use)
            for name in settings.bundles:
                try:
                    found.pulled.append(client.pull(name, fetch=fetch))
                except ChannelError as error:
                    found.problems.append(str(error))
            if fetch:
                pulled = {one.path for one in found.pulled}
                unclear = set(settings.bundles) - {one.name for one in found.pulled}
                needed = {path for name in unclear for path in store.of(name)}
                store.tidy(pulled | needed | set(in_use), settings.keep)
    except OSError as error:
        msg = f"a pull from {settings.url} ends: {error}; check data_dir, its space and its rights"
        raise ChannelError(msg) from error
    return found


class _Client:
    """One pull's view of the channel."""

    def __init__(
        self,
        settings: ChannelSettings,
        store: Store,
        channel_dir: Path,
        in_use: Collection[Path],
    ) -> None:
        """Bring the metadata up to date. Raises ChannelError, OSError."""
        self._settings = settings
        self._store = store
        self._in_use = {path.resolve() for path in in_use}
        self._where = f"channel {settings.name} at {settings.url}"
        channel_dir.mkdir(parents=True, exist_ok=True)
        for leftover in channel_dir.glob("tmp*"):  # tuf's, of a pull that was killed
            leftover.unlink()
        self._updater = _updater(settings, store.folder, channel_dir)
        with _in_words(self._where):
            self._updater.refresh()

    def pull(self, name: str, *, fetch: bool) -> Pulled:
        """Have the channel's bundle of this name in the store. Raises ChannelError, OSError."""
        with _in_words(self._where):
            target = self._updater.get_targetinfo(target_path(self._settings.name, name))
        if target is None:
            msg = f"{self._where} names no bundle {name}; publish it, or correct channel.bundles"
            raise ChannelError(msg)
        what = f"{self._where}: {name}"
        said = announced(what, target.custom, target.length, self._settings.max_bundle_mib * 2**20)
        digest = target.hashes.get("sha256")
        if digest is None:
            raise ChannelError(f"{what} is signed without its SHA-256; publish it with ssn-trainer")
        path = self._store.path(name, said.version)
        is_new = self._updater.find_cached_target(target, str(path)) is None
        if is_new and path.resolve() in self._in_use and _is_sound(path):
            msg = f"{what} {said.version} is another bundle than {path}, which a camera has; "
            msg += "publish it under another version (fit --bundle-version)"
            raise ChannelError(msg)
        if is_new and fetch:
            self._store.take(path, lambda place: self._fetch(target, name, said, place))
        elif fetch:
            path.touch()  # it is of the newest again, where an older one was published anew
        return Pulled(name, said.version, digest, path, target.length, is_new)

    def _fetch(self, target: TargetFile, name: str, said: ChannelBundle, place: Path) -> None:
        with _in_words(self._where):
            self._updater.download_target(target, str(place))
        what = f"{self._where}: {name} {said.version} is signed and yet"
        try:
            bundle = Bundle.open(place)
        except BundleError as error:
            raise ChannelError(f"{what} no bundle for this agent: {error}") from error
        manifest = bundle.manifest
        if (manifest.name, manifest.version) != (name, said.version):
            msg = f"{what} says of itself that it is {manifest.name} {manifest.version}"
            raise ChannelError(f"{msg}; publish it anew")
        if bundle.digest != target.hashes["sha256"]:
            raise ChannelError(f"{place}: is not what was written; check the disk")


def _is_sound(path: Path) -> bool:
    try:
        Bundle.open(path)
    except BundleError:
        return False
    return True


def _updater(settings: ChannelSettings, unverified_dir: Path, channel_dir: Path) -> Updater:
    transfer = Transfer(
        unverified_dir, settings.timeout_s, settings.min_rate_kib_s * 1024, settings.limit_s
    )
    limit = settings.max_metadata_kib * 1024
    config = UpdaterConfig(
        root_max_length=limit,
        timestamp_max_length=MAX_TIMESTAMP_BYTES,
        snapshot_max_length=limit,
        targets_max_length=limit,
    )
    try:
        return Updater(
            str(channel_dir),
            f"{settings.url}/metadata/",
            target_base_url=f"{settings.url}/targets/",
            fetcher=transfer,
            config=config,
            bootstrap=settings.root_file.read_bytes(),
        )
    except RepositoryError as error:
        msg = (
            f"{settings.root_file}: not a root.json ({_shown(error)}); bring the channel's "
            "metadata/1.root.json here by hand"
        )
        raise ChannelError(msg) from error


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    """Translate what tuf raises."""
    try:
        yield
    except (RepositoryError, DownloadError) as error:
        words = next(words for kind, words in _REFUSALS if isinstance(error, kind))
        raise ChannelError(f"{where} {words} ({_shown(error)})") from error


def _shown(error: Exception) -> str:
    """Return a message into which a server may have written."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:_SHOWN]
