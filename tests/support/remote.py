"""A driver in a process of its own, called from a test as if it were here.

A vendor's library keeps state of its own, reads its environment when it is loaded, and is foreign
code: a test's process never loads it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ssn_agent.capture.camera import Description, Found, Frame, FrameIds
from ssn_agent.capture.drivers.choice import make_camera
from ssn_agent.capture.settings import Source


class _Hosted:
    """A camera, in the process that loads the library."""

    def __init__(self, source: dict[str, Any]) -> None:
        settings: Any = TypeAdapter(Source).validate_python(source)
        self.camera: Any = make_camera(settings)

    def call(self, name: str, *args: Any) -> Any:
        return getattr(self.camera, name)(*args)

    def value(self, name: str) -> Any:
        return getattr(self.camera, name)

    def write(self, feature: str, value: Any) -> None:
        owner = self.camera if hasattr(self.camera, "features") else self.camera._device
        owner.features.write(feature, value)

    def held_up_s(self, wait_s: float) -> float:
        """Return for how long another thread could not run at worst while a frame is waited for."""
        worst_s, is_over = 0.0, threading.Event()

        def run() -> None:
            nonlocal worst_s
            before_s = time.monotonic()
            while not is_over.wait(0.001):
                worst_s = max(worst_s, time.monotonic() - before_s)
                before_s = time.monotonic()

        thread = threading.Thread(target=run)
        thread.start()
        assert self.camera.next_frame(wait_s) is None
        is_over.set()
        thread.join()
        return worst_s

    def spoil(self, frame_ids: list[int]) -> None:
        """Have a GenTL producer say of these frames that they came incomplete."""
        module: Any = import_module("ssn_agent.capture.drivers.gentl")
        module.is_complete = lambda buffer: buffer.frame_id not in frame_ids

    def unplug(self) -> None:
        """Have a GenTL device's registers answer no more."""
        from genicam.genapi import EAccessMode

        width = self.camera._device._nodes.get_node("Width")
        width.node.impose_access_mode(EAccessMode.NA)


def _find_gentl(producers: list[Path] | None) -> list[Found]:
    from ssn_agent.capture.drivers.gentl import find

    return find(producers)


def _find_basler() -> list[Found]:
    from ssn_agent.capture.drivers.basler import find

    return find()


class _Manager(BaseManager):
    """Carries calls over."""


_Manager.register("Hosted", _Hosted)
_Manager.register("find_gentl", _find_gentl)
_Manager.register("find_basler", _find_basler)


class RemoteCamera:
    """The driver interface, over to the other process."""

    waits = False
    open_limit_s = 20.0
    frame_limit_s = 5.0

    def __init__(self, hosted: Any) -> None:
        self.hosted = hosted
        self.silence_limit_s: float | None = hosted.value("silence_limit_s")
        self.frame_ids: FrameIds | None = None

    def open(self) -> None:
        self.hosted.call("open")
        self.frame_ids = self.hosted.value("frame_ids")

    def arm(self) -> None:
        self.hosted.call("arm")

    def next_frame(self, wait_s: float) -> Frame | None:
        frame: Frame | None = self.hosted.call("next_frame", wait_s)
        return frame

    def trigger(self) -> None:
        self.hosted.call("trigger")

    def describe(self) -> Description:
        description: Description = self.hosted.call("describe")
        return description

    def close(self) -> None:
        self.hosted.call("close")

    def taken(self, count: int = 1) -> list[Frame]:
        """Return so many frames; each comes within two seconds."""
        frames = [self.next_frame(2) for _ in range(count)]
        assert None not in frames
        return [frame for frame in frames if frame is not None]


class OwnProcess:
    """The other process."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def camera(self, **source: Any) -> RemoteCamera:
        """Make a driver for a source, closed."""
        return RemoteCamera(self._manager.Hosted(source))

    @contextmanager
    def running(self, **source: Any) -> Iterator[RemoteCamera]:
        """Make one, open and armed; it is closed at the end."""
        camera = self.camera(**source)
        try:
            camera.open()
            camera.arm()
            yield camera
        finally:
            camera.close()

    def find_gentl(self, producers: list[Path] | None) -> list[Found]:
        return list(self._manager.find_gentl(producers)._getvalue())

    def find_basler(self) -> list[Found]:
        return list(self._manager.find_basler()._getvalue())


@contextmanager
def own_process(**environment: str) -> Iterator[OwnProcess]:
    """Start it, with more in its environment."""
    manager = _Manager(ctx=get_context("spawn"))
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        manager.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    with manager:
        yield OwnProcess(manager)
