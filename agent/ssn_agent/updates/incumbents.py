"""The bundles of the settings, where a name is followed and nothing of the channel's judges yet."""

import hashlib
from pathlib import Path

from ssn_agent.settings import Settings

_BLOCK = 2**20


def settings_bundles(settings: Settings, follows: str) -> list[Path]:
    """Return what the settings name where this name is followed."""
    judges = [judge for camera in settings.cameras.values() for judge in camera.judges]
    return [j.bundle for j in judges if j.follow == follows and j.bundle is not None]


class Digests:
    """Digests of files that are read again only when they have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int], str] = {}

    def of(self, paths: list[Path]) -> set[str]:
        """Return their SHA-256; an empty one for what cannot be read."""
        return {self._digest(path) for path in paths}

    def _digest(self, path: Path) -> str:
        try:
            key = path, path.stat().st_mtime_ns
            if key not in self._known:
                found = hashlib.sha256()
                with path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        found.update(block)
                self._known[key] = found.hexdigest()
        except OSError:
            return ""
        return self._known[key]
