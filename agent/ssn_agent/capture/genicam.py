"""The settings of GenICam cameras, the same for every way to reach them: set, then read back.

A driver shows its camera's features as `Features`; names are those of the Standard Features Naming
Convention (SFNC 2.7), and those that cameras had before it.
"""

from collections.abc import Iterator
from typing import Protocol

from ssn_agent.capture.settings import GenICamSource, Region
from ssn_agent.errors import CameraError

Value = bool | int | float | str

_EXPOSURE = ("ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw")
_GAIN = ("Gain", "GainAbs", "GainRaw")
_TOLERANCE = 0.02
"""Of a number: a camera rounds to its own steps."""


class Features(Protocol):
    """The features of a camera that is open. All raise CameraError, naming the feature."""

    def has(self, name: str) -> bool:
        """Say whether the camera has a feature that can be used at present."""
        ...

    def read(self, name: str) -> Value:
        """Return a value; an enumeration's is its entry's name."""
        ...

    def write(self, name: str, value: Value) -> None:
        """Set a value of the feature's own kind; 3 is a good float."""
        ...

    def limits(self, name: str) -> str:
        """Say what may be set: a range, or an enumeration's entries; empty where unknown."""
        ...


def configure(features: Features, source: GenICamSource, name: str) -> None:
    """Bring a camera into the state that its settings say, before acquisition begins.

    `name` is the camera's, for messages. Raises CameraError where a feature is missing, refuses a
    value, or does not keep it.
    """
    for feature, value in _wanted(features, source):
        set_checked(features, feature, value, name)


def set_checked(features: Features, feature: str, value: Value, name: str) -> None:
    """Set a feature and read it back. Raises CameraError."""
    if not features.has(feature):
        msg = f"{name}: has no feature {feature}; take it out of the camera's source"
        raise CameraError(msg)
    features.write(feature, value)
    got = features.read(feature)
    if not _same(value, got):
        limits = features.limits(feature)
        can = f" (it takes {limits})" if limits else ""
        msg = f"{name}: {feature} was set to {value}, the camera does {got}{can}; set what it does"
        raise CameraError(msg)


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
    if isinstance(wanted, bool | str) or isinstance(got, bool | str):
        return wanted == got
    return abs(wanted - got) <= _TOLERANCE * max(abs(wanted), 1e-9)
