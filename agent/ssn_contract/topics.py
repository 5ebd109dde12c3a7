"""MQTT topics: `ssn/v1/{site}/{line}/{station}/...`, built and taken apart in this one place."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict

from ssn_contract.manifest import NAME_PATTERN, Name

PREFIX = "ssn/v1"
CameraTopic = Literal["verdict", "heatmap", "model", "challenge", "trigger"]


class Station(BaseModel):
    """Where a box stands; each level is a lower-case name without `/`, `+` or `#`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    site: Name = "site"
    line: Name = "line"
    station: Name = "station"

    def __str__(self) -> str:
        return f"{self.site}/{self.line}/{self.station}"


def channel_topic(site: str, channel: str) -> str:
    """Inwards, of all stations of a site: a channel names something new; retained."""
    return f"{PREFIX}/{site}/channel/{channel}"


@dataclass(frozen=True)
class Topics:
    """All topics of one station."""

    station: Station

    @property
    def root(self) -> str:
        """`ssn/v1/{site}/{line}/{station}`."""
        return f"{PREFIX}/{self.station}"

    @property
    def status(self) -> str:
        """Birth, last will and counts; retained."""
        return f"{self.root}/status"

    @property
    def metrics(self) -> str:
        """Figures for dashboards; not retained."""
        return f"{self.root}/metrics"

    @property
    def label(self) -> str:
        """Inwards: an operator's label on a verdict."""
        return f"{self.root}/label"

    @property
    def command(self) -> str:
        """Inwards: a command to the station."""
        return f"{self.root}/command"

    def verdict(self, camera: str) -> str:
        """One JSON message a part, not retained."""
        return f"{self.root}/{camera}/verdict"

    def heatmap(self, camera: str, sequence: int) -> str:
        """An 8-bit gray PNG that belongs to the verdict of that sequence."""
        return f"{self.root}/{camera}/heatmap/{sequence}"

    def model(self, camera: str) -> str:
        """The bundle in force; retained."""
        return f"{self.root}/{camera}/model"

    def challenge(self, camera: str) -> str:
        """How the camera judges what is known to be good and bad; retained."""
        return f"{self.root}/{camera}/challenge"

    def trigger(self, camera: str) -> str:
        """Inwards: a part is in front of the camera."""
        return f"{self.root}/{camera}/trigger"


@dataclass(frozen=True)
class ParsedTopic:
    """A camera's topic, taken apart."""

    station: Station
    camera: str
    kind: CameraTopic
    sequence: int | None


_LEVEL = NAME_PATTERN.strip("^$")
_CAMERA_TOPIC = re.compile(
    rf"{PREFIX}/({_LEVEL})/({_LEVEL})/({_LEVEL})/({_LEVEL})/"
    r"(?:(verdict|model|challenge|trigger)|heatmap/([1-9][0-9]{0,15}))"
)


def parse_camera_topic(topic: str) -> ParsedTopic:
    """Take a camera's topic apart. Raises ValueError, naming it, where it is not one of ours."""
    found = _CAMERA_TOPIC.fullmatch(topic)
    if found is None:
        msg = f"{topic!r} is not a camera topic of {PREFIX}"
        raise ValueError(msg)
    site, line, station, camera, plain, number = found.groups()
    return ParsedTopic(
        Station(site=site, line=line, station=station),
        camera,
        cast("CameraTopic", plain or "heatmap"),
        int(number) if number else None,
    )
