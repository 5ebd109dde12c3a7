"""The C library Aravis 0.8, as far as the GigE Vision driver calls it: names, types and errors.

By ctypes, for that needs the library's own package alone, on every Python; the binding of the
distributions (gi) is for their Python, and copies each buffer (docs/adr/0012). A call lets other
threads run. Aravis' own threads never enter Python.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from ssn_agent.capture.drivers.genicam import Value
from ssn_agent.errors import CameraError

SONAME = "libaravis-0.8.so.0"
INSTALL = "install it with: apt install libaravis-0.8-0"

SUCCESS = 0
PROBLEMS = {
    2: "its end did not come in time",
    3: "packets are missing",
    4: "packets came with wrong numbers",
    5: "it has another size than the camera said",
    8: "its kind of payload is not known",
}
"""By `arv_buffer_get_status`."""

_POINTER = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT = ctypes.c_int
_INT64 = ctypes.c_int64
_UINT64 = ctypes.c_uint64
_DOUBLE = ctypes.c_double
_SWAPPED = 2
"""G_CONNECT_SWAPPED: the handler's first argument is the data."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", _INT), ("message", _TEXT))


_ERROR = ctypes.POINTER(ctypes.POINTER(_GError))


class Aravis:
    """The library's functions. Those that take a GError raise CameraError with its message."""

    def __init__(self) -> None:
        """Load it. Raises CameraError where it is not installed."""
        try:
            self._aravis = ctypes.CDLL(SONAME)
            self._glib = ctypes.CDLL("libglib-2.0.so.0")
            self._gobject = ctypes.CDLL("libgobject-2.0.so.0")
        except OSError as error:
            msg = f"Aravis is not installed ({error}); {INSTALL}"
            raise CameraError(msg) from error
        self._glib.g_error_free.argtypes = (_POINTER,)
        self._glib.g_error_free.restype = None
        self._glib.g_free.argtypes = (_POINTER,)
        self._glib.g_free.restype = None
        device, camera, stream, buffer = _POINTER, _POINTER, _POINTER, _POINTER
        # Cameras.
        self.camera_new = self._checked("camera_new", camera, _TEXT)
        self.camera_device = self._plain("camera_get_device", device, camera)
        self.is_controller = self._plain("gv_device_is_controller", _INT, device)
        self.tick_frequency = self._checked(
            "gv_device_get_timestamp_tick_frequency", _UINT64, device
        )
        self.set_stream_options = self._plain("camera_gv_set_stream_options", None, camera, _INT)
        self.set_packet_size = self._checked("camera_gv_set_packet_size", None, camera, _INT)
        self.packet_size = self._checked("camera_gv_get_packet_size", ctypes.c_uint, camera)
        self.find_packet_size = self._checked("camera_gv_auto_packet_size", ctypes.c_uint, camera)
        self.set_packet_size_adjustment = self._plain(
            "camera_gv_set_packet_size_adjustment", None, camera, _INT
        )
        self.payload = self._checked("camera_get_payload", ctypes.c_uint, camera)
        self.start = self._checked("camera_start_acquisition", None, camera)
        self.stop = self._checked("camera_stop_acquisition", None, camera)
        # Streams and their buffers.
        self.stream_new = self._checked("camera_create_stream", stream, camera, _POINTER, _POINTER)
        self.push = self._plain("stream_push_buffer", None, stream, buffer)
        self.pop = self._plain("stream_timeout_pop_buffer", buffer, stream, _UINT64)
        self.buffer_new = self._plain("buffer_new_allocate", buffer, ctypes.c_size_t)
        self.status = self._plain("buffer_get_status", _INT, buffer)
        self.frame_id = self._plain("buffer_get_frame_id", _UINT64, buffer)
        self.set_frame_id = self._plain("buffer_set_frame_id", None, buffer, _UINT64)
        self.timestamp = self._plain("buffer_get_timestamp", _UINT64, buffer)
        self.system_timestamp = self._plain("buffer_get_system_timestamp", _UINT64, buffer)
        self.width = self._plain("buffer_get_image_width", _INT, buffer)
        self.height = self._plain("buffer_get_image_height", _INT, buffer)
        self.pixel_format = self._plain("buffer_get_image_pixel_format", ctypes.c_uint32, buffer)
        self._padding: Callable[..., Any] | None = None
        if hasattr(self._aravis, "arv_buffer_get_image_padding"):  # since 0.8.23
            self._padding = self._plain(
                "buffer_get_image_padding", None, buffer, _POINTER, _POINTER
            )
        self._data = self._plain("buffer_get_data", _POINTER, buffer, _POINTER)
        # Features.
        self.set_range_check = self._plain("device_set_range_check_policy", None, device, _INT)
        self.node = self._plain("device_get_feature", _POINTER, device, _TEXT)
        self.is_available = self._checked("device_is_feature_available", _INT, device, _TEXT)
        self.execute = self._checked("device_execute_command", None, device, _TEXT)
        self._bounds = {
            kind: self._checked(
                f"device_get_{kind}_feature_bounds", None, device, _TEXT, _POINTER, _POINTER
            )
            for kind in ("integer", "float")
        }
        self._increment = self._checked(
            "device_get_integer_feature_increment", _INT64, device, _TEXT
        )
        self._entries = self._checked(
            "device_dup_available_enumeration_feature_values_as_strings",
            ctypes.POINTER(_TEXT),
            *(device, _TEXT, _POINTER),
        )
        kinds: dict[str, Any] = {
            "boolean": _INT,
            "integer": _INT64,
            "float": _DOUBLE,
            "string": _TEXT,
        }
        self._read = {
            kind: self._checked(f"device_get_{kind}_feature_value", made, device, _TEXT)
            for kind, made in kinds.items()
        }
        self._write = {
            kind: self._checked(f"device_set_{kind}_feature_value", None, device, _TEXT, made)
            for kind, made in kinds.items()
        }
        # Several are integers or strings beside: the first that fits is what a feature is.
        self._types = {
            kind: self._plain(f"gc_{kind}_get_type", ctypes.c_size_t)()
            for kind in ("enumeration", "boolean", "command", "integer", "float", "string")
        }
        # What they are made of.
        self.unref = self._typed(self._gobject.g_object_unref, None, _POINTER)
        self._is_a = self._typed(
            self._gobject.g_type_check_instance_is_a, _INT, _POINTER, ctypes.c_size_t
        )
        self._connect = self._typed(
            self._gobject.g_signal_connect_data,
            *(ctypes.c_ulong, _POINTER, _TEXT, _POINTER, _POINTER, _POINTER, _INT),
        )

    def set_socket_buffer(self, stream: int, size: int) -> None:
        """Ask for so many bytes of the kernel; it gives `net.core.rmem_max` at most."""
        self._gobject.g_object_set(
            *(_POINTER(stream), b"socket-buffer", _INT(0)),
            *(b"socket-buffer-size", _INT(size), _POINTER(None)),
        )

    def count_losses(self, device: int) -> ctypes.c_int:
        """Return a number that becomes larger when control of the device is lost.

        It has to live as long as the device. Aravis says so in a thread of its own: the handler is
        glib's own counter, so that no foreign thread runs Python.
        """
        lost = ctypes.c_int(0)
        handler = ctypes.cast(self._glib.g_atomic_int_inc, _POINTER)
        where = ctypes.addressof(lost)
        self._connect(device, b"control-lost", handler, where, None, _SWAPPED)
        return lost

    def data(self, buffer: int) -> memoryview:
        """Return what lies in a buffer, until the buffer is pushed again."""
        size = ctypes.c_size_t()
        start = self._data(buffer, ctypes.byref(size))
        if not start:
            return memoryview(b"")
        return memoryview((ctypes.c_ubyte * size.value).from_address(start)).cast("B")

    def row_padding(self, buffer: int) -> int | None:
        """Return the bytes that follow the pixels of each row; None: this Aravis does not say."""
        if self._padding is None:
            return None
        beside, below = _INT(), _INT()
        self._padding(buffer, ctypes.byref(beside), ctypes.byref(below))
        return beside.value

    def kind(self, device: int, feature: str) -> str:
        """Return what a feature is: "enumeration", "command" and so on; empty: nothing of ours."""
        node = self.node(device, feature.encode())
        if not node:
            return ""
        return next((kind for kind, of in self._types.items() if self._is_a(node, of)), "")

    def read(self, device: int, feature: str, kind: str) -> Value:
        """Return the value of a feature of a kind."""
        value = self._read["string" if kind == "enumeration" else kind](device, feature.encode())
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return bool(value) if kind == "boolean" else value

    def write(self, device: int, feature: str, kind: str, value: Value) -> None:
        """Set a feature of a kind to a value that suits it."""
        given = value.encode() if isinstance(value, str) else value
        self._write["string" if kind == "enumeration" else kind](device, feature.encode(), given)

    def bounds(self, device: int, feature: str, kind: str) -> tuple[float, float]:
        """Return the least and the largest value of an "integer" or a "float"."""
        make = _INT64 if kind == "integer" else _DOUBLE
        least, largest = make(), make()
        self._bounds[kind](device, feature.encode(), ctypes.byref(least), ctypes.byref(largest))
        return least.value, largest.value

    def step(self, device: int, feature: str) -> int:
        """Return by what the values of an "integer" differ."""
        return max(1, int(self._increment(device, feature.encode())))

    def entries(self, device: int, feature: str) -> list[str]:
        """Return the entries of an enumeration that can be set at present."""
        count = ctypes.c_uint()
        listed = self._entries(device, feature.encode(), ctypes.byref(count))
        try:
            return [listed[at].decode(errors="replace") for at in range(count.value)]
        finally:
            self._glib.g_free(listed)  # the list; the names are the feature's own

    def _plain(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        try:
            function = getattr(self._aravis, f"arv_{name}")
        except AttributeError as error:
            msg = f"the Aravis that is installed has no arv_{name}; install 0.8.20 or newer"
            raise CameraError(msg) from error
        return self._typed(function, result, *arguments)

    def _checked(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """Return a function whose last argument is a GError, which becomes an exception."""
        function = self._plain(name, result, *arguments, _ERROR)

        def call(*given: Any) -> Any:
            error = ctypes.POINTER(_GError)()
            value = function(*given, ctypes.byref(error))
            if error:
                message = (error.contents.message or b"").decode(errors="replace")
                self._glib.g_error_free(error)
                raise CameraError(message)
            return value

        return call

    @staticmethod
    def _typed(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
        function.restype = result
        function.argtypes = arguments
        return function  # type: ignore[no-any-return]  # ctypes has no types


@cache
def aravis() -> Aravis:
    """Return the library, loaded once. Raises CameraError where it is not installed."""
    return Aravis()
