"""A camera in a person's hands: chosen, free, opened as the agent opens it, asked for a frame."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.drivers.choice import make_camera
from ssn_agent.capture.settings import (
    AskedSource,
    FolderSource,
    GenICamSource,
    Source,
    V4l2Source,
    ZeroMqSource,
)
from ssn_agent.errors import AgentError, CameraEnded, CameraError, UsageError
from ssn_agent.metrics.view import NotRunning, running_settings
from ssn_agent.settings import CameraSettings

FRAME_S = 5.0
"""For the first frame, beyond what the driver itself may take."""
ASK_S = 0.2
TRIES = 5
"""Frames that may come incomplete before one of them is shown: the first often does."""
ALONE = (GenICamSource, V4l2Source)
"""Cameras that serve one program at a time."""
STOP_IT = "stop the agent first (systemctl stop ssn-agent), and start it again afterwards"


@dataclass(frozen=True)
class Chosen:
    """The camera that is meant."""

    name: str
    settings: CameraSettings
    runtime_dir: Path
    """Of the agent that may have the camera at this moment."""

    @property
    def source(self) -> AskedSource:
        """Return its source. Raises UsageError where that is none that can be asked."""
        if isinstance(self.settings.source, ZeroMqSource):
            msg = f"{self.name}: its parts are sent by other programs; there is no camera to ask"
            raise UsageError(msg)
        return self.settings.source

    def triggered(self) -> "Chosen":
        """Return the same camera, to be triggered by software. Raises UsageError."""
        given = {**self.source.model_dump(), "trigger": "software"}
        try:
            source = type(self.source).model_validate(given)
        except ValidationError as error:
            problems = "; ".join(problem["msg"] for problem in error.errors())
            raise UsageError(f"{self.name}: {problems}") from error
        return replace(self, settings=self.settings.model_copy(update={"source": source}))

    @property
    def is_triggered(self) -> bool:
        """Say whether it gives a frame for each software trigger."""
        return self.source.trigger == "software"


@contextmanager
def opened(chosen: Chosen) -> Iterator[Camera]:
    """Yield the camera, open and armed. Raises CameraError, also where the agent has it."""
    camera = make_camera(chosen.source)
    hint = _of_the_agent(chosen)
    try:
        try:
            camera.open()
            camera.arm()
        except CameraError as error:
            if not hint:
                raise
            raise CameraError(f"{error}\n{hint}") from error
        yield camera
    finally:
        camera.close()


def take(camera: Camera, chosen: Chosen) -> Frame:
    """Return the next frame, triggered where the settings say so.

    Raises CameraError where none comes in time, and CameraEnded at a file source's end.
    """
    if chosen.is_triggered:
        camera.trigger()
    limit_s = FRAME_S + camera.frame_limit_s
    ends_at = time.monotonic() + limit_s
    while time.monotonic() < ends_at:
        frame = camera.next_frame(ASK_S)
        if frame is not None:
            return frame
    msg = f"{chosen.name}: is open and gives no frame within {limit_s:g} s; {_why(chosen.source)}"
    raise CameraError(msg)


def take_whole(camera: Camera, chosen: Chosen) -> tuple[Frame, list[str]]:
    """Return the next frame that has a picture, and why those before it had none.

    Where none of `TRIES` has one, or a file source ends, it is the last of them. Raises as `take`.
    """
    problems: list[str] = []
    frame = take(camera, chosen)
    while frame.pixels is None and len(problems) < TRIES - 1:
        problems.append(frame.problem or "damaged")
        try:
            frame = take(camera, chosen)
        except CameraEnded:
            return frame, problems[:-1]
    return frame, problems


def _why(source: AskedSource) -> str:
    if isinstance(source, GenICamSource) and source.trigger == "line":
        return f"does a signal reach its input {source.trigger_line} (source.trigger_line)?"
    if isinstance(source, FolderSource) and source.watch:
        return "it shows images that are dropped into the folder from now on: drop one"
    if source.trigger == "software":
        return "it was triggered: can it be, and is the exposure shorter than that?"
    return 'does it wait for a trigger (source.trigger = "software" or "line")?'


def _of_the_agent(chosen: Chosen) -> str:
    """Return what to add where the camera does not open: the agent may have it; empty: it has not.

    Raises CameraError where it has, and the camera serves one program at a time.
    """
    try:
        cameras = running_settings(chosen.runtime_dir).cameras
    except NotRunning:
        return ""
    except AgentError as error:
        return f"Whether the agent has it cannot be told ({error}); if it has, {STOP_IT}"
    alike = {n: c.source for n, c in cameras.items() if c.source.kind == chosen.source.kind}
    for name, source in alike.items():
        if isinstance(source, ALONE) and _may_be_one(source, chosen.source):
            msg = f"{chosen.name}: the agent has it, as its camera {name}, and such a camera"
            raise CameraError(f"{msg} serves one program at a time; {STOP_IT}")
    if not alike:
        return ""
    names = ", ".join(alike)
    return f"The agent runs here with cameras of this kind ({names}); if it is one, {STOP_IT}"


def _may_be_one(left: Source, right: Source) -> bool:
    """Say whether two sources name the same device; who names none may have any."""
    (a, device), (b, other) = _device(left), _device(right)
    return a == b and (device == other or None in {device, other})


def _device(source: Source) -> tuple[tuple[Any, ...], str | None]:
    keys = (source.kind, getattr(source, "producer", None))
    return keys, getattr(source, "device", None)
