"""A frame as the model would see it, and what a person should know of it."""

from dataclasses import dataclass
from pathlib import Path

import cv2

from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import Bundle
from ssn_agent.capture.camera import Description, Frame
from ssn_agent.capture.settings import Region
from ssn_agent.errors import BundleError, CameraError, ImageError, UsageError
from ssn_agent.frames.pixels import Pixels, format_of, to_network_input
from ssn_agent.frames.slots import SLOT_BYTES
from ssn_agent.inference.crop import cropped, judged_region
from ssn_agent.inference.fitness import Fitness
from ssn_agent.settings import CameraSettings

WHITE, BLACK = 250, 5
"""From here on a value is taken as saturated, to here as black; H.264 does not keep 255 and 0."""
MANY = 0.05
"""A share of the picture that is worth a word."""
DARK, BRIGHT = 25.0, 230.0
"""Means of a picture that show little."""


@dataclass(frozen=True)
class Picture:
    """What the model would see of a frame, before it is resized."""

    pixels: Pixels
    """uint8, [H, W] gray or [H, W, 3] RGB."""
    frame_format: str
    """As the camera gave it."""
    brightness: float
    """The mean, 0 to 255."""
    saturated: float
    """Share of pixels with a value at the upper end, 0 to 1."""
    black: float
    """Share of pixels with all values at the lower end, 0 to 1."""

    @classmethod
    def of(cls, frame: Frame, roi: Region | None) -> "Picture":
        """Look at a frame, or at its region of interest.

        Raises CameraError where the frame came without pixels, ImageError where it cannot be judged
        or the region does not fit.
        """
        if frame.pixels is None:
            why = frame.problem or "it came incomplete or damaged"
            raise CameraError(f"a frame without a picture: {why}")
        if frame.pixels.nbytes > SLOT_BYTES:
            size = frame.pixels.nbytes
            raise ImageError(f"a frame of {size} bytes; up to {SLOT_BYTES} are taken")
        pixel_format = frame.pixel_format or format_of(frame.pixels)
        region = judged_region(roi, *frame.pixels.shape[:2])
        seen = cropped(frame.pixels, pixel_format, region)
        high, low = (seen, seen) if seen.ndim == 2 else (seen.max(axis=2), seen.min(axis=2))
        return cls(
            seen,
            pixel_format.name,
            float(seen.mean()),
            float((high >= WHITE).mean()),
            float(((low if seen.ndim == 2 else high) <= BLACK).mean()),
        )

    @property
    def size(self) -> str:
        """Return the size for people."""
        return f"{self.pixels.shape[1]} x {self.pixels.shape[0]}"

    @property
    def light(self) -> str:
        """Return the exposure in figures."""
        return (
            f"brightness {self.brightness:.0f} of 255, {100 * self.saturated:.1f} % saturated, "
            f"{100 * self.black:.1f} % black"
        )

    @property
    def hints(self) -> list[str]:
        """Say what may be wrong with the light; a bright field or a dark one may be meant."""
        found = []
        if self.saturated > MANY or self.brightness > BRIGHT:
            found.append("much of it is saturated: shorten the exposure, lower the gain or light")
        if self.black > 0.5 or self.brightness < DARK:
            found.append("most of it is dark: is the lamp on, the lens open, the exposure long?")
        return found

    def save(self, path: Path) -> int:
        """Write it as PNG, whole or not at all; return its bytes. Raises UsageError."""
        colours = self.pixels
        if colours.ndim == 3:
            colours = cv2.cvtColor(colours, cv2.COLOR_RGB2BGR).astype(colours.dtype, copy=False)
        data = cv2.imencode(".png", colours)[1].tobytes()
        try:
            write_atomically(path, data)
        except OSError as error:
            msg = f"{path}: cannot be written ({error.strerror}); name a folder that is there"
            raise UsageError(msg) from error
        return len(data)


def looked_at(frame: Frame, roi: Region | None) -> tuple[Picture | None, str]:
    """Return what the model would see of a frame, or why it would see nothing."""
    try:
        return Picture.of(frame, roi), ""
    except (CameraError, ImageError) as error:
        return None, str(error)


def unfit(picture: Picture, settings: CameraSettings) -> tuple[str, list[str]]:
    """Return why the agent would not judge a picture, and what is to be known of its bundle.

    By the checks that the settings want, as far as the bundle supports them.
    """
    if settings.bundle is None:
        return "", ["no bundle is set: every part is INVALID(no_model)"]
    try:
        bundle = Bundle.open(settings.bundle)
    except BundleError as error:
        return "", [f"every part is INVALID(no_model): {error}"]
    size = bundle.manifest.input
    row = to_network_input(picture.pixels, size.height, size.width)
    fitness = Fitness(bundle.reference, settings.fitness.checks)
    reason = fitness.unfit(row, *picture.pixels.shape[:2])
    off = [f"not checked: {check}: {why}" for check, why in fitness.off.items()]
    if reason is None:
        return "", off
    return f"it is {reason.value}, beside the good images of {settings.bundle}", off


def surprises(said: Description, frame: Frame) -> list[str]:
    """Say where a frame is not what the camera says of itself."""
    if frame.pixels is None or not said.width:
        return []
    height, width = frame.pixels.shape[:2]
    if (said.width, said.height) == (width, height):
        return []
    return [f"it says {said.width} x {said.height}, and its frame is {width} x {height}"]


def incomplete(problems: list[str]) -> list[str]:
    """Say of frames that came without a picture, before one that has one."""
    if not problems:
        return []
    return [f"frames came without a picture before this one, {len(problems)}: {problems[-1]}"]


def files_for(out: Path, count: int, *, replace: bool) -> list[Path]:
    """Return the files of so many pictures: `out`, or numbered beside it.

    Raises UsageError where one is there already (unless it is to be replaced), or is no PNG.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: pictures are kept without loss, as PNG; name a file in .png")
    files = [out]
    if count > 1:
        files = [out.with_name(f"{out.stem}-{number:04d}.png") for number in range(1, count + 1)]
    for path in files:
        if path.exists() and not replace:
            msg = f"{path}: is there already; name another file, or replace it with --force"
            raise UsageError(msg)
    return files
