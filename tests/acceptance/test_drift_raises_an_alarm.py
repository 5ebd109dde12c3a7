"""A lamp that ages is an alarm on `status` before a picture is too dark, until it is as it was."""

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import cv2
import pytest

from ssn_contract.messages import CameraStatus, StationStatus
from ssn_contract.topics import Station, Topics
from support.agent import station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, Subscriber
from support.scenes import GOOD, scene, with_gain
from support.waiting import wait_until

TOPICS = Topics(Station())
WINDOW = 50


class Line:
    """A program that saves a picture of each part into the folder that the agent watches."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beside = folder.with_name("beside")
        self._numbers: Iterator[int] = count(1000)
        for each in (self._folder, self._beside):
            each.mkdir()
        self.parts = 0

    def run(self, gain: float, parts: int) -> None:
        for _ in range(parts):
            name = f"{next(self._numbers)}.png"
            assert cv2.imwrite(str(self._beside / name), with_gain(scene(self.parts), gain))
            (self._beside / name).rename(self._folder / name)
            self.parts += 1


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_a_darkening_line_raises_an_alarm_before_any_part_is_invalid_and_clears_it(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn", good=GOOD)
    line = Line(tmp_path / "parts")
    source = {"kind": "folder", "path": tmp_path / "parts", "watch": True}
    camera = {"bundle": bundle, "source": source, "deadline_ms": 30_000}
    with (
        station(tmp_path, mosquitto.port, **camera, drift={"window": WINDOW}) as agent,
        closing(Subscriber(mosquitto.port, tmp_path)) as subscriber,
    ):
        agent.start()

        def newest() -> StationStatus | None:
            said = [m for m in subscriber.received() if m.topic == TOPICS.status]
            return StationStatus.model_validate_json(said[-1].payload) if said else None

        def judged() -> tuple[list[str], CameraStatus] | None:
            """Return what is said when all parts have their verdicts, and drift is of them all."""
            status = newest()
            if status is None or not status.cameras:
                return None
            [camera] = status.cameras
            is_said = camera.passed == line.parts and agent.verdicts() == line.parts
            return (status.alarms, camera) if is_said else None

        def drifting() -> list[str]:
            status = newest()
            return [] if status is None else [a for a in status.alarms if "drifts" in a]

        wait_until(lambda: "watching" in agent.log(), 60, "the camera does not open")
        line.run(1.0, WINDOW)
        wait_until(lambda: judged() is not None, 60, "not all parts are judged")
        assert drifting() == []

        for gain in (0.9, 0.8, 0.7, 0.65):
            line.run(gain, WINDOW // 2)
        wait_until(lambda: bool(drifting()), 60, "no alarm")
        [alarm] = drifting()
        assert alarm.startswith("left: brightness drifts: median ")
        wait_until(lambda: judged() is not None, 60, "not all parts are judged")
        found = judged()
        assert found is not None
        _, camera_status = found
        assert camera_status.invalid == {}  # no picture was too dark yet
        assert camera_status.drift is not None
        [first, *others] = camera_status.drift
        assert (first.statistic, first.parts) == ("brightness", WINDOW)
        assert first.since is not None
        assert [other.since for other in others] == [None] * len(others)

        line.run(1.0, WINDOW)
        wait_until(lambda: judged() is not None and not drifting(), 60, "the alarm stays")
        assert agent.stop() == 0, agent.log()
