"""Basler cameras (GigE Vision, USB3 Vision, CoaXPress) through pylon.

pylon reads its environment when it is loaded and keeps state of its own: nobody but a camera's own
process imports this.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from ssn_agent.capture.camera import Description, Found, Frame, FrameIds, HostTime
from ssn_agent.capture.drivers.buffers import MOST, count_for, picture
from ssn_agent.capture.drivers.device_clock import UNKNOWN, DeviceClock, in_ns
from ssn_agent.capture.drivers.genicam import (
    Value,
    chosen,
    configure,
    describe,
    nearest,
    pixel_format,
)
from ssn_agent.capture.settings import BaslerSource
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.log import logger

try:
    from pypylon import genicam, pylon
except ImportError as missing:
    problem = f"Basler cameras: {missing}; pip install 'ssn-inspect[basler]' on this machine"
    raise CameraError(problem) from missing

READY_MS = 500
"""For a camera that still reads out its last frame, before it is triggered again."""
GIGE = "BaslerGigE"


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Translate what pylon raises to CameraError: `what` says what was done to what."""
    try:
        yield
    except genicam.GenericException as error:
        raise CameraError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what an exception says, without the place in pylon's source."""
    return re.sub(r" : \w+ thrown .*", "", " ".join(str(error).split()))


class _Features:
    """A camera's features (`capture.drivers.genicam.Features`)."""

    def __init__(self, camera: Any, name: str) -> None:
        self._map = camera.GetNodeMap()
        self._name = name

    def has(self, name: str) -> bool:
        """Say whether there is one that can be used at present."""
        with self._told(name, "is asked for"):
            return bool(self._map.Contains(name)) and genicam.IsAvailable(self._map.GetNode(name))

    def is_command(self, name: str) -> bool:
        """Say whether it is executed."""
        with self._told(name, "is asked for"):
            return isinstance(self._map.GetNode(name), genicam.ICommand)

    def read(self, name: str) -> Value:
        """Return the value. Raises CameraError."""
        with self._told(name, "is read"):
            node = self._map.GetNode(name)
            if isinstance(node, genicam.ICommand):
                return bool(node.IsDone())
            if isinstance(node, genicam.IRegister | genicam.ICategory):
                raise CameraError(f"{self._name}: {name} is not a single value")
            value: Value = node.GetValue()
            return value

    def write(self, name: str, value: Value) -> None:
        """Set the value. Raises CameraError."""
        with self._told(name, f"is set to {value}"):
            node = self._map.GetNode(name)
            if isinstance(node, genicam.ICommand):
                node.Execute()
            elif isinstance(node, genicam.IInteger) and isinstance(value, float):
                node.SetValue(nearest(value, node.GetMin(), node.GetInc()))
            else:
                node.SetValue(value)

    def limits(self, name: str) -> str:
        """Say what may be set, or nothing where that is not known."""
        with suppress(genicam.GenericException):
            node = self._map.GetNode(name)
            if isinstance(node, genicam.IEnumeration):
                return ", ".join(node.GetSettableValues())
            if isinstance(node, genicam.IInteger):
                steps = f" in steps of {node.GetInc()}" if node.GetInc() > 1 else ""
                return f"{node.GetMin()} to {node.GetMax()}{steps}"
            if isinstance(node, genicam.IFloat):
                return f"{node.GetMin():g} to {node.GetMax():g}"
        return ""

    @contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        """Name the feature and its limits in what goes wrong."""
        try:
            yield
        except (genicam.GenericException, TypeError) as error:  # TypeError: of another kind
            reason = "of another kind" if isinstance(error, TypeError) else _reason(error)
            limits = self.limits(name)
            can = f" (it takes {limits})" if limits else ""
            raise CameraError(f"{self._name}: {name} {what}: {reason}{can}") from error


class BaslerCamera:
    """One camera of pylon's."""

    open_limit_s = 20.0
    frame_limit_s = 5.0
    waits = False

    def __init__(self, source: BaslerSource) -> None:
        self._source = source
        self._name = f"Basler {source.device}" if source.device else "Basler"
        self.silence_limit_s = source.silence_ms / 1000 if source.trigger == "free" else None
        self.frame_ids: FrameIds | None = None
        self._camera: Any = None
        self._known = Description()
        self._format = PixelFormat.Mono8
        self._ticks_per_s = 10**9
        self._clock = DeviceClock()

    def open(self) -> None:
        """Open the camera, set and read back what the settings say. Raises CameraError."""
        self.close()
        try:
            with _told(f"{self._name}: does not open"):
                self._open()
        except CameraError:
            self.close()
            raise

    def _open(self) -> None:
        factory = pylon.TlFactory.GetInstance()
        info = chosen(factory.EnumerateDevices(), self._source.device, _names, "Basler")
        self._known = _known(info)
        # GigE Vision's ids have 16 bits and leave 0 out; those of other ways have 64.
        self.frame_ids = FrameIds(1, 65535) if info.GetDeviceClass() == GIGE else FrameIds()
        self._camera = pylon.InstantCamera(factory.CreateDevice(info))
        self._camera.Open()
        self.features = _Features(self._camera, self._name)
        configure(self.features, self._source, self._name)
        self._format = pixel_format(self.features, self._name)
        self._camera.MaxNumBuffer.SetValue(count_for(int(self.features.read("PayloadSize"))))
        ticks = "GevTimestampTickFrequency"
        self._ticks_per_s = int(self.features.read(ticks)) if self.features.has(ticks) else 10**9

    def arm(self) -> None:
        """Begin to acquire, into empty buffers. Raises CameraError."""
        camera = self._opened()
        with _told(f"{self._name}: does not start to acquire"):
            camera.StopGrabbing()
            camera.StartGrabbing(pylon.GrabStrategy_OneByOne, pylon.GrabLoop_ProvidedByUser)
        self._clock = DeviceClock()

    def next_frame(self, wait_s: float) -> Frame | None:
        """Return the next frame, None where none came within the wait. Raises CameraError."""
        camera = self._opened()
        with _told(f"{self._name}: gives no frame"):
            wait_ms = round(wait_s * 1000)
            with camera.RetrieveResult(wait_ms, pylon.TimeoutHandling_Return) as result:
                read = HostTime.now()
                if not result.IsValid() or not result.GrabSucceeded():
                    self._check_alive(camera)
                return self._frame(result, read) if result.IsValid() else None

    def trigger(self) -> None:
        """Have the camera expose one frame, by its software trigger. Raises CameraError."""
        camera = self._opened()
        passed_over = 0
        while passed_over < MOST and self.next_frame(0) is not None:
            passed_over += 1
        if passed_over:
            logger().warning("frames came before their trigger", frames=passed_over)
        with _told(f"{self._name}: cannot be triggered"):
            if camera.CanWaitForFrameTriggerReady():
                camera.WaitForFrameTriggerReady(READY_MS, pylon.TimeoutHandling_Return)
        self.features.write("TriggerSoftware", value=True)

    def describe(self) -> Description:
        """Say what the camera is, and what its last frame came with. Raises CameraError."""
        self._opened()
        return describe(self.features, self._known)

    def close(self) -> None:
        """Release the camera; what fails of that is logged."""
        camera, self._camera = self._camera, None
        for release in () if camera is None else (camera.Close, camera.DestroyDevice):
            try:
                release()
            except genicam.GenericException as error:
                logger().warning("not released in order", camera=self._name, problem=_reason(error))

    def _opened(self) -> Any:
        if self._camera is None:
            raise CameraError(f"{self._name}: is not open")
        return self._camera

    def _check_alive(self, camera: Any) -> None:
        if camera.IsCameraDeviceRemoved():
            raise CameraError(f"{self._name}: is gone; was it unplugged?")

    def _frame(self, result: Any, read: HostTime) -> Frame:
        frame_id = result.GetBlockID()
        timestamp_ns = in_ns(result.GetTimeStamp(), self._ticks_per_s)
        frame = Frame(
            None,
            frame_id=None if frame_id == UNKNOWN else frame_id,
            pixel_format=self._format,
            device_timestamp_ns=timestamp_ns,
            captured=self._clock.taken(timestamp_ns, read),
        )
        self._known = replace(
            self._known,
            has_frame_ids=frame.frame_id is not None,
            has_device_timestamps=frame.device_timestamp_ns is not None,
        )
        if not result.GrabSucceeded():
            return replace(frame, problem=result.GetErrorDescription() or "came incomplete")
        if result.GetPayloadType() not in (pylon.PayloadType_Image, pylon.PayloadType_ChunkData):
            msg = f"{self._name}: sends no plain images; switch its compression or GenDC off"
            raise CameraError(msg)
        size = result.GetWidth(), result.GetHeight()
        try:
            with result.GetImageMemoryView() as data:
                pixels = picture(data, self._format, *size, padding=result.GetPaddingX())
        except ImageError as error:
            return replace(frame, problem=str(error))
        return replace(frame, pixels=pixels)


def find() -> list[Found]:
    """Return the cameras that pylon sees. Raises CameraError."""
    with _told("Basler cameras cannot be searched for"):
        found = pylon.TlFactory.GetInstance().EnumerateDevices()
        return [
            Found("basler", " ".join(_words(_known(info))), {"device": _names(info)[0]})
            for info in found
        ]


def _words(known: Description) -> list[str]:
    return [word for word in (known.vendor, known.model, known.serial) if word]


def _known(info: Any) -> Description:
    return Description(
        vendor=info.GetVendorName(),
        model=info.GetModelName(),
        serial=info.GetSerialNumber(),
        version=f"pylon {pylon.GetPylonVersionString()}",
    )


def _names(info: Any) -> list[str]:
    """Return by what a camera can be named in the settings, the best first."""
    names = (info.GetSerialNumber(), info.GetUserDefinedName(), info.GetFullName())
    return [name for name in names if name]
