"""What the line to the broker reports: what the broker answered, and what it brought."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Connected:
    """The broker took us; None where it states no limit."""

    max_packet_bytes: int | None
    max_inflight: int | None = None
    """Messages that it takes at once; paho leaves it to us to keep to that."""
    connection: int = 1
    """Which one this is: they are counted."""


@dataclass(frozen=True)
class Disconnected:
    """The connection is gone or was refused; the line tries again by itself."""

    reason: str


@dataclass(frozen=True)
class Acknowledged:
    """The broker has a message of the present connection, or refuses it."""

    mid: int
    refusal: str | None


@dataclass(frozen=True)
class Arrived:
    """A message to us; the broker repeats it until it is acknowledged."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int
    """On which it came: its `mid` means nothing on another one."""


@dataclass(frozen=True)
class Subscribed:
    """The broker answered our subscription."""

    refusal: str | None


Event = Connected | Disconnected | Acknowledged | Arrived | Subscribed
