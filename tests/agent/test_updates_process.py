"""A bundle that the channel names comes into force when it has earned it, and out again if not."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssn_agent.frames.layout import Outcome
from ssn_agent.ledger.database import open_database
from ssn_agent.updates import driver as driver_module
from ssn_agent.updates.note import read_alarms
from ssn_agent.updates.request import Request, write_request
from ssn_agent.updates.state import Phase
from ssn_contract.messages import InvalidReason
from support.bundles import manifest, write_brightness_bundle
from support.channels import NAME, Plant, static_files
from support.labelled import label_writer, said, write_verdicts
from support.updates import Box, closing, following, write_image
from support.waiting import wait_until

CALIBRATION = {"threshold": 0.9, "slope": 10.0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("served")
    with static_files(folder) as url:
        yield folder, url


@pytest.fixture
def plant(served: tuple[Path, str], tmp_path: Path) -> Plant:
    made = Plant.made(served[0] / tmp_path.name)
    made.publish("1.0.0")
    return made


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


class Station:
    """A station of the plant's channel, judged by version 0.9.0 at first."""

    def __init__(self, served: tuple[Path, str], plant: Plant, home: Path, runtime: Path) -> None:
        self.home = home
        self._url = f"{served[1]}/{plant.home.name}/channel"
        self._root = Path(shutil.copy(plant.metadata / "1.root.json", home / "root.json"))
        self._runtime = runtime
        self.first = write_brightness_bundle(home / "first.ssn", version="0.9.0")

    def box(self, bundle: Path | None = None, **changes: Any) -> Box:
        return Box(following(self.home, self._runtime, self._url, self._root, bundle, **changes))


@pytest.fixture
def station(served: tuple[Path, str], plant: Plant, tmp_path: Path, runtime: Path) -> Station:
    return Station(served, plant, tmp_path, runtime)


def alarms(box: Box) -> str:
    return "\n".join(read_alarms(box.files.updates))


def test_a_bundle_that_judges_alike_is_pulled_shadowed_swapped_to_and_kept(
    station: Station,
) -> None:
    box = station.box(station.first)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={})
    assert box.steps == ["pulled", "tried", "shadow", "shadow", "swapped", "kept"]
    followed = box.followed
    assert followed.phase is Phase.IDLE
    assert followed.in_force is not None
    assert followed.in_force.version == "1.0.0"
    assert followed.before is None
    begins, ends = (e for e in box.state.events if e.step == "shadow")
    assert begins.detail == "begins"
    assert ends.figures["frames"] == 20
    assert ends.figures["disagreement"] == 0
    assert "no labelled images" in str(ends.detail)
    assert box.state.events[1].figures["engine"] == "onnxruntime-cpu/fp32"
    assert alarms(box) == ""
