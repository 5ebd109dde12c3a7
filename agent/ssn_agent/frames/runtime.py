"""Where in the runtime directory each mapped file, socket and note lies."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True)
class RuntimeFiles:
    """Paths below the runtime directory, which outlives a restart of the service."""

    root: Path

    def journal(self, camera: str) -> Path:
        """Return the trigger journal of a camera."""
        return self.root / f"{camera}.journal"

    def journals(self) -> list[Path]:
        """Return all journals that are there, also of cameras that are no longer set."""
        return sorted(self.root.glob("*.journal"))

    def pixels(self, camera: str) -> Path:
        """Return the pixel slots of a camera."""
        return self.root / f"{camera}.pixels"

    def triggers(self, camera: str) -> Path:
        """Return the socket on which a camera takes triggers from the ledger process.

        Its name has one length for all cameras: the kernel bounds a socket's path.
        """
        return self.root / f"{sha256(camera.encode()).hexdigest()[:8]}.parts"

    @property
    def labels(self) -> Path:
        """Return the socket on which the ledger process takes labels."""
        return self.root / "labels.socket"

    @property
    def settings(self) -> Path:
        """Return the settings in force, as the supervisor resolved them; readable by us alone."""
        return self.root / "settings.json"

    @property
    def supervisor(self) -> Path:
        """Return the note of what the supervisor has to say on `status`."""
        return self.root / "supervisor.json"

    @property
    def figures(self) -> Path:
        """Return what the ledger process reports of cameras, ledger and broker."""
        return self.root / "figures.json"

    @property
    def lock(self) -> Path:
        """Return the file whose lock says that an agent runs here."""
        return self.root / "agent.lock"

    def heartbeat(self, process: str) -> Path:
        """Return the heartbeat of a process: `ledger`, `inference`, `capture:CAMERA`, ...."""
        return self.root / f"{process}.heartbeat"

    def swapped(self, follows: str) -> Path:
        """Return inference's note of which followed bundle judges, or why the wanted one does not.

        See `inference.swapping`.
        """
        return self.root / f"{follows}.swapped"

    def drift(self, camera: str) -> Path:
        """Return inference's note of how a camera's parts drift; see `frames.drift_note`."""
        return self.root / f"{camera}.drift"

    @property
    def announced(self) -> Path:
        """Return the file whose change asks the updates process to look at the channel now."""
        return self.root / "announced"

    @property
    def update_request(self) -> Path:
        """Return the file in which a command asks something of the updates process."""
        return self.root / "update.request"

    def challenge_request(self, camera: str) -> Path:
        """Return the file in which a command asks something of a camera's challenge."""
        return self.root / f"{camera}.challenge"

    @property
    def updates(self) -> Path:
        """Return the note of what people should know of updates."""
        return self.root / "updates.json"

    @property
    def inference_ready(self) -> Path:
        """Return the note that inference has opened its bundles, on engines it knows to be best."""
        return self.root / "inference.ready"

    @property
    def inference_bell(self) -> Path:
        """Return the socket on which the inference process is woken."""
        return self.root / "inference.bell"

    @property
    def ledger_bell(self) -> Path:
        """Return the socket on which the ledger process is woken."""
        return self.root / "ledger.bell"

    def engine_starting(self, digest: str) -> Path:
        """Return the note of which engine is being loaded for a bundle, while it is."""
        return self.root / f"{digest[:16]}.starting"
