"""A GenTL producer, its devices, and one that is open: features, and buffers that it fills.

The producer is asked through the `genicam` package, EMVA's own binding. Of `harvesters`, which lies
over it, the reading of a device's description is used, and no more: its acquisition drops
incomplete buffers without their ids, takes SIGINT for itself, and logs what fails without raising
it (docs/cameras/gentl.md).
"""

import ctypes
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ssn_agent.capture.drivers.buffers import count_for
from ssn_agent.capture.drivers.device_clock import UNKNOWN
from ssn_agent.capture.drivers.genicam import Value, nearest
from ssn_agent.errors import CameraError
from ssn_agent.log import logger

try:
    from genicam import genapi, gentl
    from harvesters.core import RemoteDevice
except ImportError as missing:
    problem = f"GenTL cameras: {missing}; pip install 'ssn-inspect[gentl]' on this machine"
    raise CameraError(problem) from missing

UPDATE_MS = 250
"""For an interface to say which devices it has: those on a network answer a broadcast. The binding
lets no other thread run meanwhile, as in all of its calls."""
POLL_S = 0.002
IMAGES = (
    gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_IMAGE,
    gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_CHUNK_DATA,  # an image and more, before GenTL 1.5
    gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_UNKNOWN,
    None,
)
"""Payloads that begin with one image, as far as the producer knows."""

_USABLE = (genapi.EAccessMode.RO, genapi.EAccessMode.RW, genapi.EAccessMode.WO)
_FOREIGN = (gentl.GenericException, genapi.GenericException)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Translate what the libraries raise to CameraError: `what` says what was done to what."""
    try:
        yield
    except gentl.ResourceInUseException as error:
        msg = f"{what}: another program has it, or this one twice; end the other"
        raise CameraError(msg) from error
    except gentl.AccessDeniedException as error:
        msg = f"{what}: access is denied; is it open elsewhere, may the agent's user open it?"
        raise CameraError(msg) from error
    except _FOREIGN as error:
        raise CameraError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what an exception says, without the place in the library's source."""
    said = " ".join(str(error).split()).removeprefix("GenTL exception: ")
    return re.sub(r" : \w+ thrown .*", "", said)


class Closing(ExitStack):
    """What is open, to be released in reverse order; what a release raises is logged."""

    def later(self, what: str, release: Callable[[], Any]) -> None:
        """Note how to release something that has been opened."""
        self.callback(self._quietly, what, release)

    @staticmethod
    def _quietly(what: str, release: Callable[[], Any]) -> None:
        try:
            release()
        except (*_FOREIGN, CameraError) as error:
            logger().warning("not released in order", what=what, problem=_reason(error))


def devices(path: Path, closing: Closing) -> list[Any]:
    """Open a producer and return what it says of each of its devices (`gentl.DeviceInfo`).

    Raises CameraError where the file is not there, is no producer, or does not start.
    """
    _check(path)
    with told(f"{path}: the GenTL producer does not start"):
        producer = gentl.GenTLProducer.create_producer()
        producer.open(str(path))
        closing.later("producer", producer.close)
        system = producer.create_system()
        system.open()
        closing.later("system", system.close)
        system.update_interface_info_list(UPDATE_MS)
        found = []
        for info in system.interface_info_list:
            interface = info.create_interface()
            try:
                interface.open()
            except gentl.GenericException as error:  # the others may be well
                logger().warning("interface", id=info.id_, problem=_reason(error))
                continue
            closing.later(f"interface {info.id_}", interface.close)
            interface.update_device_info_list(UPDATE_MS)
            found += list(interface.device_info_list)
    return found


def _check(path: Path) -> None:
    """Look whether a file is a producer: the binding would crash on another library."""
    remedy = "give the path of the vendor's .cti file as the camera's source.producer"
    if not path.is_file():
        msg = f"{path}: no such file; {remedy}"
        raise CameraError(msg)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        msg = f"{path}: cannot be loaded ({error}); install the vendor's GenTL software completely"
        raise CameraError(msg) from error
    if not hasattr(library, "GCInitLib"):
        msg = f"{path}: is a library, but no GenTL producer; {remedy}"
        raise CameraError(msg)


def text(info: Any, name: str) -> str:
    """Return what is known of a device, or nothing."""
    try:
        return str(getattr(info, name) or "")
    except gentl.GenericException:
        return ""


def number(asked: Any, name: str) -> int | None:
    """Return what a buffer or device says of itself; None: it does not know."""
    try:
        value = int(getattr(asked, name))
    except gentl.GenericException:
        return None
    return None if value == UNKNOWN else value


def is_complete(buffer: Any) -> bool:
    """Say whether all of a frame came, as far as is known for certain."""
    try:
        return bool(buffer.is_complete())
    except gentl.GenericException:
        return False


class NodeFeatures:
    """A device's features (`genicam.Features`)."""

    def __init__(self, node_map: Any, name: str) -> None:
        self._map = node_map
        self._name = name

    def has(self, name: str) -> bool:
        """Say whether there is one that can be used at present."""
        with self._told(name, "is asked for"):
            return bool(self._map.has_node(name)) and self._access(name) in _USABLE

    def is_command(self, name: str) -> bool:
        """Say whether it is executed."""
        with self._told(name, "is asked for"):
            return isinstance(self._map.get_node(name), genapi.ICommand)

    def read(self, name: str) -> Value:
        """Return the value. Raises CameraError."""
        with self._told(name, "is read"):
            node = self._map.get_node(name)
            if isinstance(node, genapi.ICommand):
                return bool(node.is_done())
            value = node.value
        if not isinstance(value, bool | int | float | str):
            raise CameraError(f"{self._name}: {name} is not a single value; set it at the camera")
        return value

    def write(self, name: str, value: Value) -> None:
        """Set the value. Raises CameraError."""
        with self._told(name, f"is set to {value}"):
            node = self._map.get_node(name)
            if isinstance(node, genapi.ICommand):
                node.execute()
            else:
                node.value = _of_kind(node, value)

    def limits(self, name: str) -> str:
        """Say what may be set, or nothing where that is not known."""
        try:
            node = self._map.get_node(name)
            if isinstance(node, genapi.IEnumeration):
                return ", ".join(node.symbolics)
            if isinstance(node, genapi.IInteger):
                steps = f" in steps of {node.inc}" if node.inc > 1 else ""
                return f"{node.min} to {node.max}{steps}"
            if isinstance(node, genapi.IFloat):
                return f"{node.min:g} to {node.max:g}"
        except _FOREIGN:
            pass
        return ""

    def _access(self, name: str) -> Any:
        return self._map.get_node(name).get_access_mode()

    @contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        """Name the feature and its limits in what goes wrong."""
        try:
            yield
        except (*_FOREIGN, TypeError) as error:  # TypeError: a value of another kind
            limits = self.limits(name)
            can = f" (it takes {limits})" if limits else ""
            reason = "a value of another kind" if isinstance(error, TypeError) else _reason(error)
            msg = f"{self._name}: {name} {what}: {reason}{can}"
            raise CameraError(msg) from error


def _of_kind(node: Any, value: Value) -> Value:
    if isinstance(node, genapi.IFloat) and isinstance(value, int):
        return float(value)
    if isinstance(node, genapi.IInteger) and isinstance(value, float):
        return nearest(value, node.min, node.inc)
    return value


def _description(device: Any, name: str) -> Any:
    """Read the device's own description of its features. Raises CameraError."""
    try:
        return RemoteDevice(module=device).node_map
    except (OSError, ValueError, NotImplementedError) as error:  # a temporary file, its format
        msg = f"{name}: the device's description cannot be read ({error}); is /tmp writable?"
        raise CameraError(msg) from error


class Device:
    """A device that is open, with its first stream."""

    def __init__(self, info: Any, name: str, closing: Closing) -> None:
        """Open it, alone. Raises CameraError."""
        self._name = name
        with told(f"{name}: does not open"):
            device = info.create_device()
            device.open(gentl.DEVICE_ACCESS_FLAGS_LIST.DEVICE_ACCESS_EXCLUSIVE)
            closing.later("device", device.close)
            self._nodes = _description(device, name)
            closing.later("description", self._nodes.disconnect)
            streams = list(device.data_stream_ids)
            if not streams:
                raise CameraError(f"{name}: has no stream of images; name another device")
            self._stream = device.create_data_stream()
            self._stream.open(streams[0])
            closing.later("stream", self._stream.close)
            token = self._stream.register_event(gentl.EVENT_TYPE_LIST.EVENT_NEW_BUFFER)
            self._news = gentl.EventManagerNewBuffer(token)
            closing.later("event", self._news.unregister_event)
        self.features = NodeFeatures(self._nodes, name)
        self.is_gige = device.tl_type == "GEV"
        self.ticks_per_s = number(device, "timestamp_frequency")
        self._tokens: list[Any] = []
        self._buffers: list[Any] = []
        self._is_running = False
        closing.later("buffers", self._revoke)
        closing.later("stream's acquisition", self._stop_stream)
        closing.later("device's acquisition", self._stop_device)

    def start(self) -> None:
        """Begin to acquire, into buffers that are empty. Raises CameraError."""
        with told(f"{self._name}: does not start to acquire"):
            if not self._buffers:
                self._announce()
            for buffer in self._buffers:
                self._stream.queue_buffer(buffer)
            self._is_running = True
            self._lock_parameters(1)
            self._stream.start_acquisition(gentl.ACQ_START_FLAGS_LIST.ACQ_START_FLAGS_DEFAULT, -1)
            self._nodes.get_node("AcquisitionStart").execute()

    def stop(self) -> None:
        """End it, where it runs; what was acquired and not fetched is gone. Raises CameraError."""
        with told(f"{self._name}: does not stop to acquire"):
            self._stop_device()
            self._stop_stream()

    @contextmanager
    def fetched(self, wait_ms: int) -> Iterator[Any]:
        """Give the next buffer that was filled, None after the wait; then have it filled again.

        Raises CameraError.
        """
        with told(f"{self._name}: gives no frame"):
            buffer = self._next_filled(time.monotonic() + wait_ms / 1000)
        try:
            yield buffer
        finally:
            if buffer is not None:
                with told(f"{self._name}: does not take a buffer back"):
                    self._stream.queue_buffer(buffer)

    def _next_filled(self, ends_s: float) -> Any | None:
        """Return the next buffer; the wait is ours, for in the binding's no other thread runs."""
        while True:
            try:
                self._news.update_event_data(0)
            except gentl.TimeoutException:
                left_s = ends_s - time.monotonic()
                if left_s <= 0:
                    return None
                time.sleep(min(POLL_S, left_s))
            else:
                return self._news.buffer

    def check_alive(self) -> None:
        """Read a register that every camera has from the device. Raises CameraError."""
        with told(f"{self._name}: does not answer; was it unplugged?"):
            self._nodes.get_node("Width").get_value(False, True)  # verify, ignore the cache

    def _announce(self) -> None:
        stream = self._stream
        size = stream.payload_size if stream.defines_payload_size() else None
        size = size or self._nodes.get_node("PayloadSize").value
        if not size:
            msg = f"{self._name}: says that its frames hold no bytes; check its settings"
            raise CameraError(msg)
        count = max(count_for(size), number(stream, "buffer_announce_min") or 0)
        # The producer writes into these: they have to live as long as it does.
        self._tokens = [gentl.BufferToken(bytes(size), index) for index in range(count)]
        self._buffers = [stream.announce_buffer(token) for token in self._tokens]

    def _stop_device(self) -> None:
        if self._is_running:
            self._nodes.get_node("AcquisitionStop").execute()
            self._lock_parameters(0)

    def _stop_stream(self) -> None:
        if self._is_running:
            self._stream.stop_acquisition(gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
            self._stream.flush_buffer_queue(gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
            self._news.flush_event_queue()
        self._is_running = False

    def _revoke(self) -> None:
        for buffer in self._buffers:
            self._stream.revoke_buffer(buffer)
        self._buffers.clear()
        self._tokens.clear()

    def _lock_parameters(self, value: int) -> None:
        if self._nodes.has_node("TLParamsLocked"):  # from SFNC 2 on
            self._nodes.get_node("TLParamsLocked").value = value
