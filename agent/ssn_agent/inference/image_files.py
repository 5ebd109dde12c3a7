"""Where a verdict's heatmap and its picture lie on disk: found from the verdict's key alone."""

from pathlib import Path
from uuid import UUID

FILES_PER_FOLDER = 1000


def image_path(root: Path, camera: str, epoch: UUID, sequence: int) -> Path:
    """Return a verdict's file below `root`, the folder of heatmaps or that of pictures."""
    folder = f"{sequence // FILES_PER_FOLDER:06d}"
    return root / camera / str(epoch) / folder / f"{sequence}.png"
