"""A folder of images as a camera."""

from collections.abc import Iterator
from pathlib import Path

from ssn_agent.capture.camera import Description, Frame, FrameIds
from ssn_agent.capture.drivers.asked import Asked
from ssn_agent.capture.drivers.pace import Pace
from ssn_agent.capture.settings import FolderSource
from ssn_agent.errors import CameraEnded, CameraError, ImageError
from ssn_agent.frames.layout import MAX_PART_ID_BYTES
from ssn_agent.frames.pixels import IMAGE_SUFFIXES, read_image
from ssn_agent.log import logger

LIST_S = 25.0
"""For a folder of a hundred thousand images, over a network."""
READ_S = 1.0
"""For one image."""


class FolderCamera(Asked):
    """Every image below a folder, in the order of the names; the name is the part id."""

    open_limit_s = LIST_S
    silence_limit_s: float | None = None
    frame_ids: FrameIds | None = None

    def __init__(self, source: FolderSource) -> None:
        super().__init__(is_triggered=source.trigger == "software", pace=Pace(source.fps))
        self._source = source
        self.frame_limit_s = READ_S + LIST_S if source.loop else READ_S
        self._paths: Iterator[Path] = iter(())
        self.waits = source.fps is None

    def open(self) -> None:
        """List the folder. Raises CameraError where it is not there or holds no image."""
        root = self._source.path
        if not root.is_dir():
            msg = f"{root}: no such folder; check the camera's source.path"
            raise CameraError(msg)
        images = (p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        found = sorted(p for p in images if not p.is_dir())
        if not found:
            msg = f"{root}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})"
            raise CameraError(msg)
        self._paths = iter(found)

    def describe(self) -> Description:
        """Say where the images are."""
        return Description(model=str(self._source.path), triggers=("free", "software"))

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next image; pixels are None where the file cannot be read. None: not yet."""
        if not self._is_due(wait_s):
            return None
        path = next(self._paths, None)
        if path is None and self._source.loop:
            self.open()
            path = next(self._paths, None)
        if path is None:
            msg = f"{self._source.path}: came to its end"
            raise CameraEnded(msg)
        part_id = part_name(path, self._source.path)
        try:
            return Frame(read_image(path), part_id)
        except ImageError as error:
            logger().warning("image unreadable", problem=str(error))
            return Frame(None, part_id, problem=str(error))

    def close(self) -> None:
        """Forget the listing."""
        self._paths = iter(())


def part_name(path: Path, root: Path) -> str:
    """Return the part id of an image: its path below the folder.

    Of one that is longer than a part id may be the end is kept: it tells images apart. What is no
    text in a file's name becomes a question mark.
    """
    name = path.relative_to(root).as_posix().encode(errors="replace").decode()
    while len(name) > 120 or len(name.encode()) > MAX_PART_ID_BYTES:
        name = name[1:]
    return name
