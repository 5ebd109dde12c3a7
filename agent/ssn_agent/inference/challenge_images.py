"""Pictures that are known to be good or bad: the folders of a challenge."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ssn_agent.errors import ImageError, SettingsError
from ssn_agent.frames.pixels import IMAGE_SUFFIXES, Pixels, read_image, to_network_input
from ssn_agent.inference.challenge_settings import ChallengeSettings
from ssn_agent.inference.challenge_state import Item
from ssn_agent.settings import Settings
from ssn_contract.messages import Goodness

MAX_PICTURES = 64
"""Of a folder: each takes the time of a frame."""


class Picture(NamedTuple):
    """A picture as the model takes it."""

    item: Item
    input: Pixels
    """RGB [H, W, 3] of the network's size."""
    height: int
    """Before it was resized, as `width`."""
    width: int


def pictures_in(folder: Path) -> list[Path]:
    """Return a folder's pictures by name. Raises ImageError where there are none, or too many."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        msg = f"{folder}: cannot be read ({error.strerror}); check the path and its rights"
        raise ImageError(msg) from error
    if not found:
        raise ImageError(f"{folder}: holds no picture; put some there")
    if strange := [path for path in found if not _is_utf8(path.name)]:
        msg = f"{folder}: {strange[0].name!a} is no name in UTF-8; rename the picture"
        raise ImageError(msg)
    if len(found) > MAX_PICTURES:
        msg = f"{folder}: {len(found)} pictures, of which each holds serving up for a frame's time"
        raise ImageError(f"{msg}; leave {MAX_PICTURES} at most")
    return found


def picture_items(settings: ChallengeSettings) -> list[Item]:
    """Return what lies in the folders; a folder that cannot be used stands for its pictures."""
    items = []
    for expected, folder in _folders(settings):
        try:
            paths = pictures_in(folder)
        except ImageError:
            paths = [folder]  # whoever reads it is told why
        items += [Item(kind="image", expected=expected, name=path.name) for path in paths]
    return items


def check(settings: Settings) -> None:
    """Look whether all cameras' pictures can be read. Raises SettingsError."""
    for name, camera in settings.cameras.items():
        if camera.challenge is None:
            continue
        for expected, folder in _folders(camera.challenge):
            try:
                for path in pictures_in(folder):
                    read_image(path)
            except ImageError as error:
                msg = f"cameras.{name}.challenge.{expected}_images: {error}"
                raise SettingsError(msg) from error


class PictureReader:
    """Reads one picture at a time in a thread, so that serving waits for no disk and no decoder."""

    def __init__(self, settings: ChallengeSettings) -> None:
        self._folders = dict(_folders(settings))
        self._thread = ThreadPoolExecutor(1, "challenge")
        self._wanted: tuple[Item, int, int] | None = None
        self._reading: Future[Picture] | None = None

    def ready(self, item: Item, height: int, width: int) -> Picture | None:
        """Return a picture of the network's size; None: it is being read.

        Raises ImageError, once an item that is asked for.
        """
        wanted = item, height, width
        if self._reading is None or self._wanted != wanted:
            self._wanted = wanted
            self._reading = self._thread.submit(self._read, *wanted)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    def close(self) -> None:
        """End the thread when it has read what it reads."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, item: Item, height: int, width: int) -> Picture:
        folder = self._folders.get(item.expected)
        if folder is None:
            raise ImageError(f"{item.name}: no folder of {item.expected} pictures is set any more")
        if item.name == folder.name and not (folder / item.name).exists():
            pictures_in(folder)  # says what is wrong with it
        image = read_image(folder / item.name)
        made = to_network_input(image, height, width)
        return Picture(item, made, image.shape[0], image.shape[1])


def _is_utf8(name: str) -> bool:
    """Say whether a standing can name it: a file from another system may be called otherwise."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folders(settings: ChallengeSettings) -> Iterator[tuple[Goodness, Path]]:
    if settings.good_images is not None:
        yield "good", settings.good_images
    if settings.bad_images is not None:
        yield "bad", settings.bad_images
