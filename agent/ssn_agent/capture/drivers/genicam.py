"""The settings of GenICam cameras, the same for every way to reach them: set, then read back.

A driver shows its camera's features as `Features`; names are those of the Standard Features Naming
Convention (SFNC 2.7), and those that cameras had before it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ssn_agent.capture.camera import Description
from ssn_agent.capture.settings import GenICamSource, Region
from ssn_agent.errors import CameraError
from ssn_agent.frames.pixel_format import PixelFormat

Value = bool | int | float | str
T = TypeVar("T")

_EXPOSURE = ("ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw")
_GAIN = ("Gain", "GainAbs", "GainRaw")
_TOLERANCE = 0.02
"""Of a number with a fraction: a camera rounds to its own steps."""
DONE_S = 5.0
"""For a command that takes its time, such as loading a set of the camera's."""
_ASK_S = 0.02
_FORMATS = {known.name.lower(): known for known in PixelFormat}
_FPS = ("ResultingFrameRate", "ResultingFrameRateAbs", "AcquisitionFrameRate")
_OF_INTEREST = (
    *("PixelFormat", "Width", "Height", "OffsetX", "OffsetY"),
    *(*_EXPOSURE, "ExposureAuto", *_GAIN, "GainAuto", "AcquisitionFrameRate"),
    *("TriggerMode", "TriggerSource", "TriggerActivation", "GevSCPSPacketSize"),
)


class Features(Protocol):
    """The features of a camera that is open. All raise CameraError, naming the feature."""

    def has(self, name: str) -> bool:
        """Say whether the camera has a feature that can be used at present."""
        ...

    def is_command(self, name: str) -> bool:
        """Say whether a feature is executed: it has no value to keep."""
        ...

    def read(self, name: str) -> Value:
        """Return a value; an enumeration's is its entry's name, a command's whether it is done."""
        ...

    def write(self, name: str, value: Value) -> None:
        """Set a value of the feature's own kind; 3 is a good float. True executes a command.

        A float for a feature of whole numbers is set to the nearest one that it takes.
        """
        ...

    def limits(self, name: str) -> str:
        """Say what may be set: a range, or an enumeration's entries; empty where unknown."""
        ...


def chosen(
    found: Sequence[T], wanted: str | None, names_of: Callable[[T], list[str]], where: str
) -> T:
    """Return the device that the settings' `device` names; None: the only one.

    `names_of` gives by what a device can be named, `where` what was searched, for the message.
    Raises CameraError where there is none, or more than one.
    """
    fitting = [device for device in found if wanted is None or wanted in names_of(device)]
    if len(fitting) == 1:
        return fitting[0]
    there = "; ".join(" or ".join(names_of(device)) for device in found) or "none"
    what = f"no camera {wanted}" if wanted and not fitting else f"{len(fitting)} cameras fit"
    msg = f"{where}: {what}; set the camera's source.device; there are: {there}"
    raise CameraError(msg)


def configure(features: Features, source: GenICamSource, name: str) -> None:
    """Bring a camera into the state that its settings say, before acquisition begins.

    `name` is the camera's, for messages. Raises CameraError where a feature is missing, refuses a
    value, or does not keep it.
    """
    for feature, value in _wanted(features, source):
        set_checked(features, feature, value, name)


def set_checked(features: Features, feature: str, value: Value, name: str) -> None:
    """Set a feature and read it back, or execute it. Raises CameraError."""
    if not features.has(feature):
        msg = f"{name}: has no feature {feature}; take it out of the camera's source"
        raise CameraError(msg)
    if features.is_command(feature):
        _execute(features, feature, value, name)
        return
    try:
        features.write(feature, value)
    except CameraError:
        if features.read(feature) != value:  # else it is held at what is wanted
            raise
    got = features.read(feature)
    if not _same(value, got):
        limits = features.limits(feature)
        can = f" (it takes {limits})" if limits else ""
        msg = f"{name}: {feature} was set to {value}, the camera does {got}{can}; set what it does"
        raise CameraError(msg)


def _execute(features: Features, feature: str, value: Value, name: str) -> None:
    if value is not True:
        msg = f"{name}: {feature} is a command, executed by true and not by {value}; set it to that"
        raise CameraError(msg)
    features.write(feature, value)
    ends_s = time.monotonic() + DONE_S
    while not features.read(feature):
        if time.monotonic() > ends_s:
            msg = f"{name}: {feature} is not done after {DONE_S:g} s; do it at the camera, once"
            raise CameraError(msg)
        time.sleep(_ASK_S)


def nearest(value: float, lowest: int, step: int) -> int:
    """Return the whole number nearest to `value` of those that a feature takes."""
    return lowest + round((value - lowest) / step) * step


def pixel_format(features: Features, name: str) -> PixelFormat:
    """Return the format in which the camera sends. Raises CameraError where it is not taken."""
    current = str(features.read("PixelFormat"))
    known = _format(current)
    if known is None:
        offered = features.limits("PixelFormat").split(", ")
        taken = ", ".join(entry for entry in offered if _format(entry) is not None)
        can = f"to one of {taken}" if taken else "to such a one"
        msg = f"{name}: sends {current}, not 8 bits a value; set the source's pixel_format {can}"
        raise CameraError(msg)
    return known


def describe(features: Features, known: Description) -> Description:
    """Return what is `known` of a camera with what its features say. Raises CameraError."""

    def text(*names: str) -> str:
        return next((str(features.read(n)) for n in names if features.has(n)), "")

    def number(name: str) -> int:
        return int(text(name) or 0)

    sources = features.limits("TriggerSource") if features.has("TriggerMode") else ""
    triggers = {"free": True, "software": "Software" in sources, "line": "Line" in sources}
    fps = text(*_FPS)
    return replace(
        known,
        vendor=known.vendor or text("DeviceVendorName"),
        model=known.model or text("DeviceModelName"),
        serial=known.serial or text("DeviceSerialNumber", "DeviceID"),
        version=text("DeviceFirmwareVersion", "DeviceVersion") or known.version,
        pixel_format=text("PixelFormat"),
        width=number("Width"),
        height=number("Height"),
        fps=float(fps) if fps else None,
        triggers=tuple(kind for kind, can in triggers.items() if can),
        settings={
            feature: f"{text(feature)} ({features.limits(feature)})"
            for feature in _OF_INTEREST
            if features.has(feature)
        },
    )


def _format(entry: str) -> PixelFormat | None:
    """Return a format by its name, or by the name that it had before SFNC 2: RGB8Packed."""
    return _FORMATS.get(entry.lower().removesuffix("packed"))


def _wanted(features: Features, source: GenICamSource) -> Iterator[tuple[str, Value]]:
    """Yield features and values in the order in which cameras take them."""
    if source.pixel_format is not None:
        yield "PixelFormat", source.pixel_format
    if source.sensor_region is not None:
        yield from _region(features, source.sensor_region)
    yield from _trigger(features, source)
    if source.exposure_us is not None:
        yield from _by_hand(features, _EXPOSURE, "ExposureAuto", source.exposure_us)
    if source.gain is not None:
        yield from _by_hand(features, _GAIN, "GainAuto", source.gain)
    yield from source.features.items()


def _region(features: Features, region: Region) -> Iterator[tuple[str, Value]]:
    offsets = {"OffsetX": region.x, "OffsetY": region.y}
    # To the corner first: a size that does not fit beside the old offset is refused.
    for offset in offsets:
        if features.has(offset):
            yield offset, 0
    yield "Width", region.width
    yield "Height", region.height
    for offset, value in offsets.items():
        if value:
            yield offset, value


def _by_hand(
    features: Features, names: tuple[str, ...], automatic: str, value: float
) -> Iterator[tuple[str, Value]]:
    """Set what the camera would else set by itself, by the name by which it knows it."""
    if features.has(automatic):
        yield automatic, "Off"
    yield next((name for name in names if features.has(name)), names[0]), value


def _trigger(features: Features, source: GenICamSource) -> Iterator[tuple[str, Value]]:
    if features.has("AcquisitionMode"):
        yield "AcquisitionMode", "Continuous"
    if not features.has("TriggerMode") and source.trigger == "free":
        return
    if features.has("TriggerSelector"):
        yield "TriggerSelector", "FrameStart"
    if source.trigger == "free":
        yield "TriggerMode", "Off"
        return
    yield "TriggerMode", "On"
    if source.trigger == "software":
        yield "TriggerSource", "Software"
    else:
        yield "TriggerSource", source.trigger_line
        yield "TriggerActivation", source.trigger_activation


def _same(wanted: Value, got: Value) -> bool:
    if not (isinstance(wanted, float) or isinstance(got, float)):
        return wanted == got
    if isinstance(wanted, bool | str) or isinstance(got, bool | str):
        return False
    return abs(wanted - got) <= _TOLERANCE * max(abs(wanted), 1e-9)
