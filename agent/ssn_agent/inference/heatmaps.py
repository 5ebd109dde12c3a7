"""Where a heatmap lies on disk: found from the verdict's key alone."""

from pathlib import Path
from uuid import UUID

FILES_PER_FOLDER = 1000


def heatmap_path(root: Path, camera: str, epoch: UUID, sequence: int) -> Path:
    """Return the file of a verdict's heatmap below `root`."""
    folder = f"{sequence // FILES_PER_FOLDER:06d}"
    return root / camera / str(epoch) / folder / f"{sequence}.png"
