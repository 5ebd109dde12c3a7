"""The features of a GigE Vision camera, by Aravis."""

from collections.abc import Iterator
from contextlib import contextmanager

from ssn_agent.capture.drivers.aravis import Aravis
from ssn_agent.capture.drivers.genicam import Value, nearest
from ssn_agent.errors import CameraError

_KINDS = {"enumeration": str, "string": str, "boolean": bool, "integer": int, "float": float}


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say which camera it was."""
    try:
        yield
    except CameraError as error:
        msg = f"{name}: {error}"
        raise CameraError(msg) from error


class AravisFeatures:
    """`Features` of a device that Aravis has opened."""

    def __init__(self, library: Aravis, device: int, name: str) -> None:
        self._library = library
        self._device = device
        self._name = name

    def has(self, name: str) -> bool:
        """Say whether it can be used at present."""
        with named(self._name):
            return bool(self._library.is_available(self._device, name.encode()))

    def is_command(self, name: str) -> bool:
        """Say whether it is executed; Aravis does not tell when it is done."""
        with named(self._name):
            return self._kind(name) == "command"

    def read(self, name: str) -> Value:
        """Return its value."""
        with named(self._name):
            kind = self._kind(name)
            return True if kind == "command" else self._library.read(self._device, name, kind)

    def write(self, name: str, value: Value) -> None:
        """Set it, or execute it."""
        with named(self._name):
            kind = self._kind(name)
            if kind == "command":
                self._library.execute(self._device, name.encode())
            else:
                self._library.write(self._device, name, kind, self._suited(name, kind, value))

    def limits(self, name: str) -> str:
        """Say what may be set."""
        with named(self._name):
            kind = self._kind(name)
            if kind == "enumeration":
                return ", ".join(self._library.entries(self._device, name))
            if kind not in {"integer", "float"}:
                return ""
            least, largest = self._library.bounds(self._device, name, kind)
            return f"{least:g} to {largest:g}"

    def _suited(self, name: str, kind: str, value: Value) -> Value:
        """Return a value as a feature of a kind takes it. Raises CameraError."""
        given = type(value)  # not isinstance: True is no number here
        if given is _KINDS[kind]:
            return value
        if kind == "float" and given is int:
            return float(value)
        if kind == "integer" and given is float:
            least, _ = self._library.bounds(self._device, name, kind)
            return nearest(float(value), int(least), self._library.step(self._device, name))
        msg = f"{name} is of the kind {kind}, and {value!r} is not; check the camera's source"
        raise CameraError(msg)

    def _kind(self, name: str) -> str:
        kind = self._library.kind(self._device, name)
        if not kind:
            msg = f"{name} is no feature that can be set or read"
            raise CameraError(msg)
        return kind
