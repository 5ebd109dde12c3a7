"""Cameras of any vendor through the vendor's GenTL producer, a `.cti` file.

The producer is foreign code in this process, and keeps state of its own: nobody but a camera's own
process imports this.
"""

import os
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssn_agent.capture.camera import Description, Found, Frame, FrameIds, HostTime
from ssn_agent.capture.drivers.buffers import MOST, picture
from ssn_agent.capture.drivers.device_clock import DeviceClock, in_ns
from ssn_agent.capture.drivers.genicam import chosen, configure, describe, pixel_format
from ssn_agent.capture.drivers.gentl_device import (
    IMAGES,
    Closing,
    Device,
    devices,
    is_complete,
    number,
    text,
)
from ssn_agent.capture.settings import GenTlSource
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.log import logger

PRODUCERS = "GENICAM_GENTL64_PATH"
"""Environment: the folders in which vendors install their producers, as GenTL has it."""
ASK_S = 1.0
"""A camera that gives no frame for so long is asked whether it is there."""


class GenTlCamera:
    """One device of a producer."""

    open_limit_s = 20.0
    frame_limit_s = 5.0
    waits = False

    def __init__(self, source: GenTlSource) -> None:
        self._source = source
        self._name = source.device or source.producer.name
        self.silence_limit_s = source.silence_ms / 1000 if source.trigger == "free" else None
        self.frame_ids: FrameIds | None = None
        self._closing = Closing()
        self._device: Device | None = None
        self._format = PixelFormat.Mono8
        self._size = (0, 0)
        self._known = Description()
        self._shown: tuple[bool, bool] = (False, False)
        self._clock = DeviceClock()
        self._heard_s = 0.0

    def open(self) -> None:
        """Open the device, set and read back what the settings say. Raises CameraError."""
        self.close()
        try:
            self._open()
        except CameraError:
            self.close()
            raise

    def _open(self) -> None:
        info = chosen(
            devices(self._source.producer, self._closing),
            self._source.device,
            _names,
            str(self._source.producer),
        )
        self._known = Description(
            vendor=text(info, "vendor"),
            model=text(info, "model"),
            serial=text(info, "serial_number"),
            version=text(info, "version"),
        )
        device = Device(info, self._name, self._closing)
        # GigE Vision's ids have 16 bits and leave 0 out; those of other ways have 64.
        self.frame_ids = FrameIds(1, 65535) if device.is_gige else FrameIds()
        configure(device.features, self._source, self._name)
        self._format = pixel_format(device.features, self._name)
        width, height = (device.features.read(name) for name in ("Width", "Height"))
        self._size = int(width), int(height)
        self._device = device

    def arm(self) -> None:
        """Begin to acquire, into empty buffers. Raises CameraError."""
        device = self._opened()
        device.stop()
        device.start()
        self._clock = DeviceClock()
        self._heard_s = time.monotonic()

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next frame, None where none came within the wait. Raises CameraError."""
        device = self._opened()
        with device.fetched(round(wait_s * 1000)) as buffer:
            read = HostTime.now()
            if buffer is not None:
                self._heard_s = time.monotonic()
                return self._frame(buffer, device, read)
        if time.monotonic() - self._heard_s > ASK_S:
            device.check_alive()
            self._heard_s = time.monotonic()
        return None

    def trigger(self) -> None:
        """Have the camera expose one frame, by its software trigger. Raises CameraError."""
        device = self._opened()
        passed_over = 0
        while passed_over < MOST:
            with device.fetched(0) as buffer:
                if buffer is None:
                    break
                passed_over += 1
        if passed_over:
            logger().warning("frames came before their trigger", frames=passed_over)
        device.features.write("TriggerSoftware", True)

    def describe(self) -> Description:
        """Say what the device is, and what its last frame came with. Raises CameraError."""
        has_ids, has_timestamps = self._shown
        known = replace(self._known, has_frame_ids=has_ids, has_device_timestamps=has_timestamps)
        return describe(self._opened().features, known)

    def close(self) -> None:
        """Release buffers, device and producer; what fails of that is logged."""
        self._device = None
        self._closing.close()

    def _opened(self) -> Device:
        if self._device is None:
            raise CameraError(f"{self._name}: is not open")
        return self._device

    def _frame(self, buffer: Any, device: Device, read: HostTime) -> Frame:
        timestamp_ns = _timestamp_ns(buffer, device.ticks_per_s)
        frame = Frame(
            None,
            frame_id=number(buffer, "frame_id"),
            pixel_format=self._format,
            device_timestamp_ns=timestamp_ns,
            captured=self._clock.taken(timestamp_ns, read),
        )
        self._shown = frame.frame_id is not None, frame.device_timestamp_ns is not None
        if not is_complete(buffer):
            return replace(frame, problem="came incomplete")
        kind = number(buffer, "payload_type")
        if kind not in IMAGES:
            msg = f"{self._name}: sends payloads of type {kind}; have it send one plain image each"
            raise CameraError(msg)
        width, height = self._size
        filled = number(buffer, "size_filled") or None
        try:
            pixels = picture(
                memoryview(buffer.raw_buffer)[:filled],
                self._format,
                number(buffer, "width") or width,
                # A line camera may send fewer rows than it was set to.
                number(buffer, "delivered_image_height") or number(buffer, "height") or height,
                padding=number(buffer, "padding_x") or 0,
                offset=number(buffer, "image_offset") or 0,
            )
        except ImageError as error:
            return replace(frame, problem=str(error))
        return replace(frame, pixels=pixels)


def find(producers: Iterable[Path] | None = None) -> list[Found]:
    """Return the devices of producers; None: of those that are installed (`PRODUCERS`).

    What a producer fails with is logged; the others are asked all the same.
    """
    found = []
    for path in _installed() if producers is None else producers:
        with closing(Closing()) as opened:
            try:
                found += [_found(path, info) for info in devices(path, opened)]
            except CameraError as error:
                logger().warning("producer not searched", problem=str(error))
    return found


def _installed() -> list[Path]:
    folders = os.environ.get(PRODUCERS, "").split(os.pathsep)
    return [path for folder in folders if folder for path in sorted(Path(folder).glob("*.cti"))]


def _found(path: Path, info: Any) -> Found:
    name = " ".join(filter(None, (text(info, n) for n in ("vendor", "model", "serial_number"))))
    return Found("gentl", name, {"producer": str(path), "device": _names(info)[0]})


def _names(info: Any) -> list[str]:
    """Return by what a device can be named in the settings, the best first."""
    names = (text(info, name) for name in ("serial_number", "user_defined_name", "id_"))
    return [name for name in names if name]


def _timestamp_ns(buffer: Any, ticks_per_s: int | None) -> int | None:
    timestamp_ns = number(buffer, "timestamp_ns")
    if timestamp_ns is None:
        return in_ns(number(buffer, "timestamp"), ticks_per_s)
    return timestamp_ns or None  # 0: there is none
