"""GenICam cameras are set in the order in which they take it, and what they keep is looked at."""

import pytest

from ssn_agent.capture.camera import Description, HostTime
from ssn_agent.capture.drivers import buffers, genicam
from ssn_agent.capture.drivers.device_clock import DeviceClock, in_ns
from ssn_agent.capture.drivers.genicam import (
    Value,
    configure,
    describe,
    nearest,
    pixel_format,
    set_checked,
)
from ssn_agent.capture.settings import BaslerSource
from ssn_agent.errors import CameraError, ImageError
from ssn_agent.frames.pixel_format import PixelFormat

SENSOR = 1000


class Camera:
    """Features in memory, of a camera that is hard to please."""

    def __init__(self, **features: Value) -> None:
        self.features = features
        self.written: list[tuple[str, Value]] = []
        self.fixed: set[str] = set()
        self.steps: dict[str, float] = {}
        self.commands: dict[str, int] = {}
        """How often each is asked before it is done."""

    def has(self, name: str) -> bool:
        return name in self.features

    def is_command(self, name: str) -> bool:
        return name in self.commands

    def read(self, name: str) -> Value:
        if name in self.commands:
            self.commands[name] -= 1
            return self.commands[name] < 0
        return self.features[name]

    def write(self, name: str, value: Value) -> None:
        if name in self.fixed:
            raise CameraError(f"{name} is not writable")
        if name in {"Width", "OffsetX"}:
            size = {"Width": self.features["Width"], "OffsetX": self.features["OffsetX"]}
            if sum(int(v) for v in (size | {name: value}).values()) > SENSOR:
                raise CameraError(f"{name} is set to {value}: does not fit")
        self.written.append((name, value))
        step = self.steps.get(name)
        if step is not None and not isinstance(value, str):
            value = type(value)(value // step * step)
        self.features[name] = value

    def limits(self, name: str) -> str:
        return {"Gain": "0 to 24", "PixelFormat": "Mono8, Mono12, RGB8Packed, YUV422"}.get(name, "")


def set_by(camera: Camera, **settings: object) -> list[tuple[str, Value]]:
    """Return what is written for a source's settings."""
    configure(camera, BaslerSource.model_validate(settings), "left")
    return camera.written


def test_a_region_that_does_not_fit_beside_the_old_corner_is_taken() -> None:
    camera = Camera(Width=400, Height=400, OffsetX=600, OffsetY=300)
    region = {"x": 100, "y": 0, "width": 800, "height": 700}
    assert set_by(camera, sensor_region=region) == [
        *(("OffsetX", 0), ("OffsetY", 0), ("Width", 800), ("Height", 700), ("OffsetX", 100)),
    ]


def test_a_camera_whose_corner_is_fixed_takes_a_region_at_its_corner_and_no_other() -> None:
    camera = Camera(Width=400, Height=400, OffsetX=0)
    region = {"x": 0, "y": 0, "width": 800, "height": 700}
    assert set_by(camera, sensor_region=region)[-1] == ("Height", 700)
    with pytest.raises(CameraError, match="left: has no feature OffsetY; take it out"):
        set_by(camera, sensor_region=region | {"y": 8})


def test_the_format_comes_first_and_other_features_last_in_their_order() -> None:
    names = ("PixelFormat", "TriggerMode", "ExposureAuto", "ExposureTime", "Gain", "B", "A")
    camera = Camera(**dict.fromkeys(names, 0))
    written = set_by(
        camera, pixel_format="Mono8", exposure_us=100, gain=3, features={"B": 1, "A": 2}
    )
    assert written == [
        *(("PixelFormat", "Mono8"), ("TriggerMode", "Off"), ("ExposureAuto", "Off")),
        *(("ExposureTime", 100.0), ("Gain", 3.0), ("B", 1), ("A", 2)),
    ]


def test_exposure_and_gain_are_set_by_the_names_of_older_cameras_too() -> None:
    camera = Camera(ExposureTimeAbs=1.0, GainRaw=1)
    assert set_by(camera, exposure_us=100, gain=3) == [("ExposureTimeAbs", 100.0), ("GainRaw", 3.0)]


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"trigger": "free"}, [("TriggerMode", "Off")]),
        ({"trigger": "software"}, [("TriggerMode", "On"), ("TriggerSource", "Software")]),
        (
            {"trigger": "line", "trigger_line": "Line2", "trigger_activation": "FallingEdge"},
            [
                *(("TriggerMode", "On"), ("TriggerSource", "Line2")),
                ("TriggerActivation", "FallingEdge"),
            ],
        ),
    ],
)
def test_the_trigger_is_that_of_the_frame(
    settings: dict[str, object], written: list[tuple[str, Value]]
) -> None:
    names = ("AcquisitionMode", "TriggerSelector", "TriggerMode", "TriggerSource")
    camera = Camera(**dict.fromkeys((*names, "TriggerActivation"), "?"))
    first = [("AcquisitionMode", "Continuous"), ("TriggerSelector", "FrameStart")]
    assert set_by(camera, **settings) == [*first, *written]


def test_a_camera_without_triggers_runs_freely_and_is_not_triggered() -> None:
    assert set_by(Camera(Width=1)) == []
    with pytest.raises(CameraError, match="left: has no feature TriggerMode"):
        set_by(Camera(Width=1), trigger="software")


def test_a_feature_that_is_held_at_what_is_wanted_need_not_be_written() -> None:
    camera = Camera(AcquisitionMode="Continuous", Width=5)
    camera.fixed = {"AcquisitionMode", "Width"}
    set_by(camera)
    with pytest.raises(CameraError, match="Width is not writable"):
        set_checked(camera, "Width", 6, "left")


def test_what_a_camera_rounds_away_is_refused_with_what_it_does_and_takes() -> None:
    camera = Camera(Gain=0.0)
    camera.steps = {"Gain": 2.0}
    with pytest.raises(
        CameraError, match=r"left: Gain was set to 3.0, the camera does 2.0 \(it takes 0 to 24\)"
    ):
        set_by(camera, gain=3)


def test_a_camera_may_round_to_its_own_steps_but_a_size_is_exact() -> None:
    camera = Camera(ExposureTime=0.0, Width=0, OffsetX=0)
    camera.steps = {"ExposureTime": 3.0, "Width": 4}
    set_checked(camera, "ExposureTime", 1000.0, "left")
    with pytest.raises(CameraError, match="Width was set to 641, the camera does 640"):
        set_checked(camera, "Width", 641, "left")


@pytest.mark.parametrize(
    ("wanted", "kept"), [(True, False), ("On", "Off"), ("1", 1.0), (1.0, True), (0.0, 1e-3)]
)
def test_a_value_of_another_kind_is_another_value(wanted: Value, kept: Value) -> None:
    camera = Camera(F=kept)
    camera.write = lambda *_: None  # type: ignore[method-assign]  # keeps what it has
    with pytest.raises(CameraError, match="F was set to"):
        set_checked(camera, "F", wanted, "left")


def test_a_command_that_takes_its_time_is_executed_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = Camera(UserSetLoad=False, Slow=False)
    camera.commands = {"UserSetLoad": 3, "Slow": 10**9}
    assert set_by(camera, features={"UserSetLoad": True}) == [("UserSetLoad", True)]
    assert camera.commands["UserSetLoad"] == -1
    monkeypatch.setattr(genicam, "DONE_S", 0.05)
    with pytest.raises(CameraError, match=r"left: Slow is not done after 0\.05 s"):
        set_checked(camera, "Slow", True, "left")


def test_a_command_that_is_refused_or_given_a_value_is_told_and_not_taken_for_done() -> None:
    camera = Camera(UserSetLoad=True)
    camera.commands = {"UserSetLoad": 0}
    with pytest.raises(CameraError, match="UserSetLoad is a command, executed by true and not by"):
        set_checked(camera, "UserSetLoad", False, "left")
    assert not camera.written
    camera.fixed = {"UserSetLoad"}
    with pytest.raises(CameraError, match="UserSetLoad is not writable"):
        set_checked(camera, "UserSetLoad", True, "left")


def test_a_fraction_goes_to_the_nearest_whole_step() -> None:
    assert [nearest(v, 28, 28) for v in (30.0, 1000.0, 1009.0)] == [28, 1008, 1008]


@pytest.mark.parametrize(
    ("entry", "known"),
    [
        ("Mono8", PixelFormat.Mono8),
        ("BayerRG8", PixelFormat.BayerRG8),
        ("RGB8Packed", PixelFormat.RGB8),
        ("BGRA8Packed", PixelFormat.BGRa8),
    ],
)
def test_a_format_is_known_by_its_names_of_today_and_before(entry: str, known: PixelFormat) -> None:
    assert pixel_format(Camera(PixelFormat=entry), "left") is known


def test_another_format_is_refused_with_those_that_the_camera_could_send() -> None:
    with pytest.raises(CameraError, match=r"sends Mono12, .* pixel_format to one of Mono8, RGB8P"):
        pixel_format(Camera(PixelFormat="Mono12"), "left")


def test_what_is_known_of_the_device_goes_before_what_its_features_say() -> None:
    camera = Camera(DeviceVendorName="V", DeviceModelName="M", Width=8, PixelFormat="Mono8")
    told = describe(camera, Description(model="of the transport"))
    assert (told.vendor, told.model, told.width, told.fps) == ("V", "of the transport", 8, None)
    assert told.triggers == ("free",)


# The device's clock.

SECOND = 10**9


def moments(clock: DeviceClock, *frames: tuple[int | None, int]) -> list[int]:
    """Return when frames were taken, by their timestamps and when they were read."""
    return [clock.taken(stamp, HostTime(at, at)).monotonic_ns for stamp, at in frames]


def test_frames_of_a_backlog_were_taken_as_far_apart_as_the_device_says() -> None:
    backlog = ((100, 5_000), (200, 5_300), (300, 5_310), (400, 5_320))
    assert moments(DeviceClock(), *backlog) == [5_000, 5_100, 5_200, 5_300]


def test_without_a_timestamp_a_frame_was_taken_when_it_was_read() -> None:
    assert moments(DeviceClock(), (None, 70), (5, 80), (None, 90)) == [70, 80, 90]


def test_a_device_whose_clock_drifts_is_followed_also_over_a_long_pause() -> None:
    clock, drift = DeviceClock(), 1e-4
    for second in (*range(100), *range(3600, 3700)):
        at = int(second * SECOND * (1 + drift))
        (taken,) = moments(clock, (second * SECOND, at))
        assert 0 <= at - taken <= 21 * SECOND * drift


def test_a_clock_that_was_set_is_another_one() -> None:
    hour = 3600 * SECOND
    frames = ((hour, 10), (0, 20), (10, 35), (hour, 40), (hour + 10, 50))
    assert moments(DeviceClock(), *frames) == [10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("ticks", "rate", "ns"),
    [
        (5, 1000, 5_000_000),
        *((0, 1000, None), (None, 1000, None), (2**64 - 1, 1000, None)),
        *((5, 0, None), (5, None, None)),
    ],
)
def test_a_timestamp_or_a_rate_that_is_unknown_is_no_time(
    ticks: int | None, rate: int | None, ns: int | None
) -> None:
    assert in_ns(ticks, rate) == ns


# Buffers.


def test_there_are_as_many_buffers_as_memory_allows_also_where_a_size_is_unknown() -> None:
    assert [buffers.count_for(size) for size in (0, 2**20, 2**25, 2**30)] == [16, 16, 8, 4]


def test_rows_with_padding_behind_them_and_bytes_before_them_are_the_picture_alone() -> None:
    data = bytes(range(100))
    pixels = buffers.picture(data, PixelFormat.RGB8, 2, 3, padding=2, offset=5)
    assert pixels.shape == (3, 2, 3)
    assert pixels[:, 0, 0].tolist() == [5, 13, 21]
    assert pixels[2].ravel().tolist() == [21, 22, 23, 24, 25, 26]
    gray = buffers.picture(data[:27], PixelFormat.Mono8, 6, 3, padding=2, offset=5)
    assert gray[2].tolist() == [21, 22, 23, 24, 25, 26]  # the last row ends without


def test_a_picture_is_its_own_also_where_the_buffer_is_filled_again() -> None:
    data = bytearray(b"\7" * 12)
    pixels = buffers.picture(memoryview(data), PixelFormat.Mono8, 4, 3)
    data[:] = b"\0" * 12
    assert pixels.min() == 7


@pytest.mark.parametrize("size", [(5, 3), (4, 4), (0, 3), (4, 0)])
def test_a_buffer_that_is_too_short_for_its_picture_holds_none(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="12 bytes, said to hold"):
        buffers.picture(bytes(12), PixelFormat.Mono8, *size)
