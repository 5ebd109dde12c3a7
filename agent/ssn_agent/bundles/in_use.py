"""Which bundles are to be pulled, and which must not be deleted."""

from pathlib import Path

from ssn_agent.bundles.settings import ChannelSettings
from ssn_agent.errors import SettingsError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import Settings, read_resolved
from ssn_agent.updates.state import read_state


def channel_of(settings: Settings) -> ChannelSettings:
    """Return the channel with all names to be pulled. Raises SettingsError where there is none."""
    if settings.channel is None:
        msg = "channel: not set; say where bundles come from (docs/channels.md)"
        raise SettingsError(msg)
    names = sorted({*settings.channel.bundles, *settings.followed})
    if not names:
        msg = "channel: no bundle is named; set channel.bundles, or have a camera follow one"
        raise SettingsError(msg)
    return settings.channel.model_copy(update={"bundles": names})


def bundles_in_use(settings: Settings) -> set[Path]:
    """Return the bundles of cameras, by these settings and by those of the agent that runs here.

    The service's environment may name others than the file, and loads them at its next start. What
    is followed judges by others, and may go back to others still. Raises SettingsError where the
    agent's settings cannot be read, UpdateError where it is not known what is followed.
    """
    files = RuntimeFiles(settings.runtime_dir)
    known = [settings, read_resolved(files.settings)] if files.settings.exists() else [settings]
    judges = [j for one in known for camera in one.cameras.values() for j in camera.judges]
    named = {judge.bundle.absolute() for judge in judges if judge.bundle is not None}
    for one in read_state(settings.models_file).followed.values():
        stored = (one.in_force, one.before, one.candidate)
        named |= {bundle.path for bundle in stored if bundle is not None}
    return named
