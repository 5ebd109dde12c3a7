"""What every loop of capture does beside its camera: heartbeats, and settings that change."""

from ssn_agent.frames.heartbeat import BEAT_S, Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import configure
from ssn_agent.processes import reload_asked_by
from ssn_agent.settings import read_resolved


class Life:
    """The capture process of one camera, as the supervisor sees it."""

    def __init__(self, name: str, files: RuntimeFiles) -> None:
        """Begin to beat."""
        self._name = f"capture:{name}"
        self._files = files
        self._heart = Heartbeat(files.heartbeat(self._name))
        self._heart.beat()

    def beat(self, limit_s: float = 0.0) -> None:
        """Say that all is well before a call that may take so long."""
        self._heart.beat(limit_s + BEAT_S)

    def heed_reload(self) -> None:
        """Take over the level of the log: nothing else that may change is capture's."""
        if reload_asked_by() is not None:
            configure(read_resolved(self._files.settings).log_level, self._name)
