"""Which bundles must not be deleted."""

from pathlib import Path

from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import Settings, read_resolved


def bundles_in_use(settings: Settings) -> set[Path]:
    """Return the bundles of cameras, by these settings and by those of the agent that runs here.

    The service's environment may name others than the file, and loads them at its next start.
    Raises SettingsError, where the agent's cannot be read.
    """
    files = RuntimeFiles(settings.runtime_dir)
    known = [settings, read_resolved(files.settings)] if files.settings.exists() else [settings]
    judges = [j for one in known for camera in one.cameras.values() for j in camera.judges]
    return {judge.bundle.absolute() for judge in judges if judge.bundle is not None}
