"""The drivers under test: each one's counterpart, what that allows, what tells its frames apart.

A further driver is a further entry of `DRIVERS`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cameras import fast_rtsp
from cameras.rig import no_content
from chaos.sender import Plan
from ssn_agent.frames.journal import Entry
from ssn_agent.frames.pixels import Pixels
from support import rtsp
from support.aravis import aravis_camera
from support.children import environment
from support.counterparts import Counterpart
from support.waiting import wait_until

SIDE = 512
"""Of a frame at the full rate, in pixels."""


@dataclass(frozen=True)
class Driver:
    """A driver, and what its counterpart can be made to do."""

    name: str
    make: Callable[[Path], AbstractContextManager[Counterpart]]
    """In a folder that is there."""
    rows: frozenset[str]
    """Of `rows.ROWS`, by their names."""
    content: Callable[[Entry, Pixels], Hashable] = no_content
    """What tells an exposure from every other; an integer rises with time."""
    times_slack_ms: float | None = None
    """The content is when it was exposed, in milliseconds of the monotonic clock, to so much."""
    make_full_rate: Callable[[Path], AbstractContextManager[Counterpart]] | None = None
    """A counterpart of 512 x 512 pixels, as fast as it can."""
    noticed_s: float = 3.5
    """Within this a free-running counterpart that stands still must be noticed."""
    before: str = ""
    """Python that the capture process runs first."""
    sends: bool = False
    """There is no camera: other programs send the frames with their triggers."""
    make_lossy: Callable[..., AbstractContextManager[Counterpart]] | None = None
    """One of whose packets `lost_per_thousand` get lost."""
    fail: Callable[[dict[str, Any], int], dict[str, Any]] | None = None
    """Return a source with which so many buffers fail."""


# Network cameras.


def _exposed_ms(_entry: Entry, pixels: Pixels) -> int:
    return rtsp.exposed_ms(pixels)


@contextmanager
def _network_camera(folder: Path) -> Iterator[Counterpart]:
    del folder
    with rtsp.network_camera() as camera:
        yield camera


@contextmanager
def _fast_network_camera(folder: Path) -> Iterator[Counterpart]:
    del folder
    with fast_rtsp.network_camera() as camera:
        yield camera


# GigE Vision cameras.


def _gige_camera(**source: Any) -> Callable[..., AbstractContextManager[Counterpart]]:
    @contextmanager
    def make(folder: Path, lost_per_thousand: int = 0) -> Iterator[Counterpart]:
        del folder
        with aravis_camera(lost_per_thousand=lost_per_thousand) as camera:
            camera.kill()  # a row starts it
            camera.source |= source
            yield camera

    return make


def _device_time(entry: Entry, _pixels: Pixels) -> int | None:
    return None if entry.captured is None else entry.captured.device_timestamp_ns


# Simulators that live in the capture process itself: nobody can kill them alone.


def _frame_id(entry: Entry, _pixels: Pixels) -> int | None:
    return None if entry.captured is None else entry.captured.frame_id


def _simulated(source: dict[str, Any]) -> Callable[[Path], AbstractContextManager[Counterpart]]:
    @contextmanager
    def make(folder: Path) -> Iterator[Counterpart]:
        del folder
        yield Nothing(source)

    return make


def _viky(**features: Any) -> dict[str, Any]:
    """Return the source of the simulator that the genicam package brings."""
    spec = find_spec("genicam")
    assert spec is not None
    assert spec.origin is not None
    producer = str(Path(spec.origin).with_name("viky.cti"))
    return {"kind": "gentl", "producer": producer, "device": "1", "features": features}


SQUARE = {"x": 0, "y": 0, "width": SIDE, "height": SIDE}
EMULATED: dict[str, Any] = {"kind": "basler", "device": "0815-0000", "sensor_region": SQUARE}


def _with_features(source: dict[str, Any], **features: Any) -> dict[str, Any]:
    return {**source, "features": {**source.get("features", {}), **features}}


# What is no device.


class Nothing:
    """The source needs no counterpart: it is there."""

    def __init__(self, source: dict[str, Any]) -> None:
        self.source = source

    def start(self) -> None:
        """It is."""

    def kill(self) -> None:
        """It stays."""

    def freeze(self) -> None:
        """It stays."""

    def thaw(self) -> None:
        """It stays."""


@contextmanager
def _drawn_line(folder: Path) -> Iterator[Counterpart]:
    del folder
    yield Nothing({"kind": "line", "fps": 20.0})


def _part_number(entry: Entry, _pixels: Pixels) -> int | None:
    name = entry.accepted.part_id or ""
    return int(name.removeprefix("part-")) if entry.accepted.trigger_id is None else None


IMAGES = 64


@contextmanager
def _folder(folder: Path) -> Iterator[Counterpart]:
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        image = rng.integers(0, 255, (SIDE, SIDE), np.uint8)
        image[:8, :8] = number
        assert cv2.imwrite(str(images / f"{number:03d}.bmp"), image)
    yield Nothing({"kind": "folder", "path": str(images), "loop": True})


class Sender:
    """A program that sends parts over ZeroMQ: the witness of `chaos`."""

    def __init__(self, folder: Path, bind: str, fps: float, side: int) -> None:
        self.source = {"kind": "zeromq", "bind": bind}
        self._folder = folder
        self._plan = folder / "plan.json"
        plan = Plan(binds={"left": bind}, fps=fps, height=side, width=side)
        self._plan.write_text(plan.model_dump_json())
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it says nothing of itself before it sends."""
        answers = self._folder / "offered.jsonl"
        size = answers.stat().st_size if answers.exists() else 0
        command = [sys.executable, "-m", "chaos.sender", str(self._plan), str(self._folder)]
        self._process = subprocess.Popen(command, env=environment())
        wait_until(
            lambda: answers.exists() and answers.stat().st_size > size, 30, "nothing is sent"
        )

    def kill(self) -> None:
        """End it with SIGKILL, where it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Parts that do not come are no fault: nothing is to be noticed."""

    def thaw(self) -> None:
        """See `freeze`."""


def _sender(fps: float, side: int) -> Callable[[Path], AbstractContextManager[Counterpart]]:
    @contextmanager
    def make(folder: Path) -> Iterator[Counterpart]:
        with tempfile.TemporaryDirectory(prefix="ssn-") as sockets:
            sender = Sender(folder, f"ipc://{sockets}/parts", fps, side)
            try:
                yield sender
            finally:
                sender.kill()

    return make


@contextmanager
def _silent_sender(folder: Path) -> Iterator[Counterpart]:
    del folder
    with tempfile.TemporaryDirectory(prefix="ssn-") as sockets:
        yield Nothing({"kind": "zeromq", "bind": f"ipc://{sockets}/parts"})


def _part_name(entry: Entry, _pixels: Pixels) -> str | None:
    return entry.accepted.trigger_id


NO_DEVICE = frozenset({"full-rate", "memory"})
A_DEVICE = NO_DEVICE | {"killed", "killed-triggered", "frozen", "frozen-triggered", "triggers"}

DRIVERS = {
    driver.name: driver
    for driver in (
        Driver(
            "rtsp",
            _network_camera,
            A_DEVICE,
            content=_exposed_ms,
            times_slack_ms=1000 / rtsp.FPS,
            make_full_rate=_fast_network_camera,
        ),
        Driver(
            "gige",
            _gige_camera(),
            A_DEVICE | {"lossy", "wrapping"},
            content=_device_time,
            make_full_rate=_gige_camera(features={"AcquisitionFrameRate": 1000}),
            make_lossy=_gige_camera(),
        ),
        Driver(
            "gentl",
            _simulated(_viky(AcquisitionFrameRate=100)),
            NO_DEVICE,
            content=_frame_id,
            make_full_rate=_simulated(_viky(Width=SIDE, Height=SIDE, AcquisitionFrameRate=200)),
        ),
        Driver(
            "basler",
            _simulated(EMULATED),
            NO_DEVICE | {"triggers", "failing"},
            content=_frame_id,
            make_full_rate=_simulated({**EMULATED, "exposure_us": 100}),
            before="import os; os.environ['PYLON_CAMEMU'] = '1'",
            fail=lambda source, count: _with_features(
                source, ForceFailedBufferCount=count, ForceFailedBuffer=True
            ),
        ),
        Driver("line", _drawn_line, frozenset({"triggers"}), content=_part_number),
        Driver("folder", _folder, NO_DEVICE | {"triggers"}),
        Driver(
            "zeromq",
            _sender(fps=50.0, side=96),
            NO_DEVICE | {"killed"},
            content=_part_name,
            make_full_rate=_sender(fps=400.0, side=SIDE),
        ),
        Driver("zeromq-parts", _silent_sender, frozenset({"triggers"}), sends=True),
    )
}
