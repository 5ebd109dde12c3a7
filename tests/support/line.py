"""A line to a broker with its doorbell, as the ledger process has one."""

import json
from collections.abc import Callable
from pathlib import Path

from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.publish.events import Acknowledged, Connected, Disconnected, Event
from ssn_agent.publish.mqtt import BrokerLink
from ssn_agent.publish.settings import BrokerSettings
from support.waiting import wait_until

WILL = "ssn/v1/site/line/station/status"


class Line:
    """A link that has been started, and all events so far."""

    def __init__(self, folder: Path, settings: BrokerSettings) -> None:
        self._bell = Doorbell(folder / "bell")
        self.link = BrokerLink(settings, "ssn-test", Ringer(folder / "bell"))
        self.events: list[Event] = []
        self.link.start(WILL, json.dumps({"state": "offline"}))

    def wait_for(self, found: Callable[[Event], bool]) -> Event:
        """Sleep on the bell until such an event is there."""
        seen = 0

        def look() -> bool:
            nonlocal seen
            if seen == len(self.events):
                self._bell.wait(0.05)
                self.events += self.link.events()
            while seen < len(self.events) and not found(self.events[seen]):
                seen += 1
            return seen < len(self.events)

        wait_until(look, 20, f"no such event among {self.events}")
        return self.events[seen]

    def publish(self, topic: str, payload: str) -> int:
        """Send a message, for which there is room."""
        mid = self.link.publish(topic, payload)
        assert mid is not None, self.events
        return mid

    def connected(self, connection: int = 1) -> None:
        """Wait for a connection, by its number."""
        self.wait_for(lambda e: isinstance(e, Connected) and e.connection == connection)

    def acknowledged(self, mid: int) -> str | None:
        """Wait for the broker's answer; return why it refuses, or None."""
        event = self.wait_for(lambda event: isinstance(event, Acknowledged) and event.mid == mid)
        assert isinstance(event, Acknowledged)
        return event.refusal

    def disconnected(self) -> str:
        """Wait for the first end of a connection, or of an attempt; return why."""
        event = self.wait_for(lambda event: isinstance(event, Disconnected))
        assert isinstance(event, Disconnected)
        return event.reason

    def close(self) -> None:
        """End it in order."""
        self.link.stop()
        self._bell.close()
