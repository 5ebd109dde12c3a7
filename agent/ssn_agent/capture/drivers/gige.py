"""GigE Vision cameras without a vendor's software, through Aravis (docs/adr/0012).

Aravis receives in a thread of its own, asks the camera for packets that were lost, and keeps up its
control in another. It says that a camera is gone after 5 s of silence to its heartbeats; a command
to one that is gone takes 2.5 s.
"""

import ctypes
import ipaddress
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ssn_agent.capture.camera import Description, Found, Frame, FrameIds
from ssn_agent.capture.drivers.aravis import PROBLEMS, SUCCESS, aravis
from ssn_agent.capture.drivers.aravis_features import AravisFeatures, named
from ssn_agent.capture.drivers.buffers import count_for, picture
from ssn_agent.capture.drivers.genicam import configure, describe, pixel_format
from ssn_agent.capture.drivers.gvcp import Device, discover
from ssn_agent.capture.frame_ids import following
from ssn_agent.capture.settings import GigeSource
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels
from ssn_agent.log import logger

_TRIGGER = "TriggerSoftware"
_SOCKET_BYTES = 16 << 20
"""For packets that wait for Aravis' thread. By itself it asks for one frame's worth, and the kernel
counts more than the packets' own bytes."""
_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_SETTLE_S = 0.2
"""A camera may keep a trigger until it is armed (the Aravis fake camera does)."""
_MAX_AGE_NS = 10_000_000_000
"""Of a frame that is read: one that seems older shows that the clock was set."""
_PLAIN_UDP = 1
"""Not through a packet socket, which takes a right that the service does not have."""


IDS = FrameIds(1, 65535)
"""Of 16 bits; those of 64 bits, which GigE Vision 2 has too, do not come to their end."""


class GigeCamera:
    """One camera."""

    open_limit_s = 20.0
    frame_limit_s = 6.0
    waits = False
    frame_ids: FrameIds | None = IDS

    def __init__(self, source: GigeSource) -> None:
        """Set up; nothing is opened yet. Raises CameraError where Aravis is not installed."""
        self._library = aravis()
        self._source = source
        self._name = source.device
        self.silence_limit_s = source.silence_ms / 1000 if source.trigger == "free" else None
        self._camera: int | None = None
        self._stream: int | None = None
        self._device = 0
        self._lost = ctypes.c_int(0)
        self._features = AravisFeatures(self._library, 0, self._name)
        self._has_timestamps = False
        self._last_id: int | None = None

    def open(self) -> None:
        """Take control, set and read back what the settings say. Raises CameraError."""
        self.close()
        try:
            self._take_control()
            configure(self._features, self._source, self._name)
            with named(self._name):
                self._set_packet_size(self._opened())
                self._has_timestamps = self._library.tick_frequency(self._device) > 0
        except CameraError:
            self.close()
            raise

    def _take_control(self) -> None:
        library = self._library
        with named(self._name):
            self._camera = library.camera_new(_address(self._source.device).encode())
            if self._camera is None:
                raise CameraError("does not answer; check its power, cable and address")
            self._device = library.camera_device(self._camera)
            if not library.is_controller(self._device):
                raise CameraError("another program controls it; end that one")
            self._lost = library.count_losses(self._device)
            library.set_range_check(self._device, 1)
            library.set_stream_options(self._camera, _PLAIN_UDP)
            library.set_packet_size_adjustment(self._camera, 0)
            with suppress(CameraError):  # it may refuse where it does not acquire
                library.stop(self._camera)  # one that was left running takes no settings
        self._features = AravisFeatures(library, self._device, self._name)

    def _set_packet_size(self, camera: int) -> None:
        wanted = self._source.packet_size
        if wanted is None:
            self._library.find_packet_size(camera)
            return
        self._library.set_packet_size(camera, wanted)
        got = self._library.packet_size(camera)
        if got != wanted:
            msg = f"packet_size was set to {wanted}, the camera does {got}; set what it does"
            raise CameraError(msg)

    def arm(self) -> None:
        """Begin to acquire, with a stream of its own: the last one's packets go nowhere.

        Raises CameraError, also where the camera sends pixels that are not taken.
        """
        camera = self._opened()
        library = self._library
        with named(self._name):
            self._end_stream(camera)
        pixel_format(self._features, self._name)
        with named(self._name):
            self._stream = library.stream_new(camera, None, None)
            if self._stream is None:
                raise CameraError("no stream; does another program use its port?")
            library.set_socket_buffer(self._stream, _SOCKET_BYTES)
            size = library.payload(camera)
            if not size:
                raise CameraError("says that its frames hold no bytes; check its settings")
            self._look_at_receive_buffer(size)
            for _ in range(count_for(size)):
                library.push(self._stream, library.buffer_new(size))
            self._last_id = None
            library.start(camera)
            if self._source.trigger == "software":
                self._drop(self._stream, _SETTLE_S)

    def _end_stream(self, camera: int) -> None:
        if self._stream is not None:
            self._library.stop(camera)
            self._library.unref(self._stream)
            self._stream = None

    def _look_at_receive_buffer(self, frame_bytes: int) -> None:
        with suppress(OSError, ValueError):  # a machine that does not say
            most = int(_RMEM_MAX.read_text())
            if most < 2 * frame_bytes:
                logger().warning(
                    "frames may come incomplete",
                    problem=f"net.core.rmem_max is {most} bytes, a frame {frame_bytes}; raise it",
                )

    def _drop(self, stream: int, wait_s: float) -> None:
        """Let go of what has come, and comes within the wait."""
        ends_at = time.monotonic() + wait_s
        while buffer := self._library.pop(stream, int(max(0.0, ends_at - time.monotonic()) * 1e6)):
            self._give_back(stream, buffer)

    def _give_back(self, stream: int, buffer: int) -> None:
        self._library.set_frame_id(buffer, 0)  # else it stays where a first packet is lost
        self._library.push(stream, buffer)

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next frame; None where none has come within `wait_s`. Raises CameraError."""
        stream = self._armed()
        self._check_control()
        buffer = self._library.pop(stream, int(wait_s * 1e6))
        if not buffer:
            return None
        try:
            return self._frame(buffer)
        finally:
            self._give_back(stream, buffer)

    def _frame(self, buffer: int) -> Frame:
        library = self._library
        status = library.status(buffer)
        frame_id = library.frame_id(buffer)
        self._last_id = frame_id or self._next_id()
        came = Frame(None, frame_id=self._last_id)
        if frame_id:
            age_ns = came.captured.utc_ns - library.system_timestamp(buffer)
            stamp_ns = library.timestamp(buffer) if self._has_timestamps else None
            came = replace(came, device_timestamp_ns=stamp_ns)
            if 0 < age_ns < _MAX_AGE_NS:
                came = replace(came, captured=came.captured.earlier(age_ns))
        if status != SUCCESS:
            return replace(came, problem=PROBLEMS.get(status, f"Aravis says {status}"))
        try:
            known = PixelFormat(library.pixel_format(buffer))
            return replace(came, pixels=self._pixels(buffer, known), pixel_format=known)
        except (ImageError, ValueError) as error:
            return replace(came, problem=str(error))

    def _pixels(self, buffer: int, known: PixelFormat) -> Pixels:
        """Copy the picture out of a buffer. Raises ImageError."""
        library = self._library
        data = library.data(buffer)
        width, height = library.width(buffer), library.height(buffer)
        padding = library.row_padding(buffer)
        if padding is None and len(data) != width * height * known.channels:
            raise ImageError("more than pixels in a frame is understood from Aravis 0.8.23 on")
        return picture(data, known, width, height, padding=padding or 0)

    def _next_id(self) -> int | None:
        """Return the id of a frame whose first packet was lost, which holds it; None: unknown."""
        return None if self._last_id is None else following(self._last_id, IDS)

    def trigger(self) -> None:
        """Have it expose one frame; what has come unasked is let go. Raises CameraError."""
        stream = self._armed()
        self._check_control()
        self._drop(stream, 0)
        with named(self._name):
            self._library.execute(self._device, _TRIGGER.encode())

    def describe(self) -> Description:
        """Say what it is. Raises CameraError."""
        self._opened()
        known = Description(has_frame_ids=True, has_device_timestamps=self._has_timestamps)
        return describe(self._features, known)

    def close(self) -> None:
        """Give control back; with a camera that is frozen that takes up to 15 s."""
        camera, self._camera = self._camera, None
        if camera is None:
            return
        with suppress(CameraError):  # it is gone; there is nothing to stop
            self._end_stream(camera)
        if self._stream is not None:
            self._library.unref(self._stream)
            self._stream = None
        self._library.unref(camera)

    def _opened(self) -> int:
        if self._camera is None:
            msg = f"{self._name}: is not open"
            raise CameraError(msg)
        return self._camera

    def _armed(self) -> int:
        if self._stream is None:
            msg = f"{self._name}: is not armed"
            raise CameraError(msg)
        return self._stream

    def _check_control(self) -> None:
        if self._lost.value:
            msg = f"{self._name}: control was lost: it was switched off, or another took it"
            raise CameraError(msg)


def find() -> list[Found]:
    """Return the cameras that answer on this machine's networks, after about a second.

    Raises CameraError where no socket is to be had.
    """
    return [
        Found(
            kind="gige",
            name=" ".join(filter(None, (it.vendor, it.model, it.serial, it.user_name))),
            source={"device": it.serial or it.address},
        )
        for it in discover()
    ]


def _address(device: str) -> str:
    """Return the IP address of a device. Raises CameraError where it is not one that answers."""
    with suppress(ValueError):
        return str(ipaddress.IPv4Address(device))
    found = discover()
    matching = [it for it in found if device in (it.serial, it.user_name)]
    if len(matching) == 1:
        return matching[0].address
    problem = "several cameras have this name" if matching else "no camera of this name answers"
    msg = f"{problem}; there are: {_listed(found)}; give its IP address or serial number"
    raise CameraError(msg)


def _listed(found: list[Device]) -> str:
    return ", ".join(f"{it.address} (serial {it.serial or '-'})" for it in found) or "none"
