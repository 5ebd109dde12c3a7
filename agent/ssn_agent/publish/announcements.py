"""Announcements that a channel names something new, from the broker to the updates process.

An announcement is a hint: it says nothing that the channel's signatures do not prove. All that
comes of it is that a file is touched; how often a channel is looked at the updates process decides.
What is not understood is logged and acknowledged: the broker would repeat it for ever.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from ssn_agent.errors import MessageError, short
from ssn_agent.log import logger
from ssn_agent.publish.events import Arrived
from ssn_agent.settings import Settings
from ssn_contract.channel import MAX_ANNOUNCEMENT_BYTES, Announcement
from ssn_contract.topics import channel_topic


class Announcements:
    """Takes those of the channel that this station follows."""

    def __init__(
        self, settings: Settings, file: Path, acknowledge: Callable[[Arrived], None]
    ) -> None:
        """Take the file that is touched (`RuntimeFiles.announced`)."""
        self._channel = None if settings.channel is None else settings.channel.name
        self._site = settings.station.site
        self._file = file
        self._acknowledge = acknowledge

    @property
    def topics(self) -> list[str]:
        """Return what to subscribe to, and to have also where it was sent before."""
        return [] if self._channel is None else [channel_topic(self._site, self._channel)]

    def take(self, event: Arrived) -> None:
        """Take up a message of the broker's."""
        try:
            self._check(event)
            touch(self._file)
        except MessageError as error:
            logger().warning("announcement refused", topic=event.topic, problem=short(error))
        except OSError as error:  # the channel is looked at by schedule, too
            logger().error("announcement not passed on", problem=str(error))
        self._acknowledge(event)

    def _check(self, event: Arrived) -> None:
        if len(event.payload) > MAX_ANNOUNCEMENT_BYTES:
            msg = f"{len(event.payload)} bytes; up to {MAX_ANNOUNCEMENT_BYTES} are taken"
            raise MessageError(msg)
        try:
            announced = Announcement.model_validate_json(event.payload)
        except ValidationError as error:
            raise MessageError.of(error, "announcement") from error
        if announced.channel != self._channel:
            msg = f"is of {announced.channel}; this topic is that of {self._channel}"
            raise MessageError(msg)


def touch(announced: Path) -> None:
    """Ask the updates process to look at the channel now. Raises OSError."""
    try:
        announced.touch(0o600)
    except PermissionError:  # root made it, by `ssn-agent bundle pull`, in a folder that is ours
        announced.unlink()
        announced.touch(0o600)
