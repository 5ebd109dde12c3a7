"""A channel with its keys, a station that follows it, and what serves it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ssn_agent.bundles.channel import Pulled, pull
from ssn_agent.bundles.settings import ChannelSettings
from ssn_contract.channel import ChannelName
from ssn_trainer.publish import channel as work
from ssn_trainer.publish.channel import Done
from ssn_trainer.publish.keys import KeyFolders, Passphrases
from ssn_trainer.publish.state import State, load
from support.bundles import write_brightness_bundle
from support.children import environment
from support.mosquitto import answers, free_port
from support.waiting import wait_until

NAME = "brightness"


def now() -> datetime:
    return datetime.now(timezone.utc)


class Plant:
    """A channel's folder, all its keys, and bundles to publish."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "channel"
        self.metadata = self.folder / "metadata"
        self.key_dir = home / "keys"
        self.passphrases = home / "passphrases"

    @classmethod
    def made(cls, home: Path, at: datetime | None = None) -> "Plant":
        """Make a new one, as if at that time."""
        plant = cls(home)
        plant.passphrases.mkdir(parents=True)
        for role in work.KEY_ROLES:
            file = plant.passphrases / role
            file.write_text(f"the passphrase of {role}\n")
            file.chmod(0o600)
        work.init(plant.folder, plant.keys(), 3, 2, at or now())
        return plant

    def keys(self) -> KeyFolders:
        return KeyFolders([self.key_dir], Passphrases(self.passphrases))

    def state(self) -> State:
        return load(self.folder, None)

    def bundle(self, version: str, **changes: Any) -> Path:
        """Write a bundle of this version, if there is none yet."""
        path = self.home / f"{NAME}-{version}.ssn"
        return path if path.exists() else write_brightness_bundle(path, version=version, **changes)

    def publish(self, version: str, to: ChannelName = "stable", at: datetime | None = None) -> Done:
        return work.publish(self.folder, self.bundle(version), to, self.keys(), at or now())

    def rotate(self, role: str) -> Done:
        """Rotate a role's first key."""
        [key, *_] = self.state().key_names(role)
        return work.rotate(self.folder, key, self.keys(), now())

    def revoke(self, role: str) -> Done:
        """Revoke a role's first key."""
        [key, *_] = self.state().key_names(role)
        return work.revoke(self.folder, key, self.keys(), now())


class Station:
    """What follows a channel; its root came by hand."""

    def __init__(self, home: Path, url: str, root: Path, **changes: Any) -> None:
        self.bundles, self.metadata = home / "bundles", home / "channel"
        given = {"url": url, "root_file": root, "bundles": [NAME], **changes}
        self.settings = ChannelSettings.model_validate(given)
        self.pull = partial(pull, self.settings, self.bundles, self.metadata)

    def version(self) -> str:
        """Pull, and return the version that the channel names."""
        [found] = self.pull()
        assert isinstance(found, Pulled)
        return found.version

    def stored(self) -> dict[str, Path]:
        """Return the bundles in the store, by their names."""
        return {path.name: path for path in self.bundles.glob("*.ssn")}

    def leftovers(self) -> list[str]:
        """Return what a pull left behind that is neither a bundle nor metadata."""
        hidden = [p.name for p in self.bundles.glob(".*") if p.name != ".lock"]
        return hidden + [p.name for p in self.metadata.glob("tmp*")]


@contextmanager
def serving(*command: str | Path) -> Iterator[str]:
    """Run a file server, `{port}` being its port; yield its address."""
    port = free_port()
    filled = [str(word).replace("{port}", str(port)) for word in command]
    with subprocess.Popen(
        [sys.executable, *filled],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as server:
        try:
            wait_until(lambda: answers(port), 20, "the file server does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def static_files(folder: Path) -> Any:
    """Serve a folder as any static file server would: Python's own."""
    return serving("-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "{port}")


def rewrite(path: Path, **fields: Any) -> None:
    """Change fields of what is signed, and leave the signatures as they are."""
    document = json.loads(path.read_text())
    document["signed"].update(fields)
    path.write_text(json.dumps(document))


def pull_into(home: Path, url: str, root: str) -> None:
    """Pull, in a process of its own."""
    Station(home, url, Path(root)).pull()


def publish_into(home: Path, version: str) -> None:
    """Publish, in a process of its own."""
    Plant(home).publish(version)


def rotate_into(home: Path, role: str) -> None:
    """Rotate a key, in a process of its own."""
    Plant(home).rotate(role)
