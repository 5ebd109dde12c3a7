"""The line to the broker: MQTT 5 over paho. Its thread only notes what happened and rings."""

import queue
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ssn_agent.errors import BrokerError
from ssn_agent.frames.wake import Ringer
from ssn_agent.settings import BrokerSettings

RECONNECT_MIN_S = 1
RECONNECT_MAX_S = 15
SESSION_S = 3600
"""How long the broker keeps what is sent to us while we are away."""
RECEIVE_MAX = 32
"""Messages to us that are not acknowledged, at most: the broker holds the others back."""
RECEIVE_MAX_BYTES = 65536
"""Of a message to us; the broker discards what is larger."""


@dataclass(frozen=True)
class Connected:
    """The broker took us; None where it states no limit."""

    max_packet_bytes: int | None
    max_inflight: int | None = None
    """Messages that it takes at once; paho leaves it to us to keep to that."""


@dataclass(frozen=True)
class Disconnected:
    """The connection is gone or was refused; paho tries again by itself."""

    reason: str


@dataclass(frozen=True)
class Acknowledged:
    """The broker has a message, or refuses it."""

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


class BrokerLink:
    """Publishes and subscribes at QoS 1; reports, as events, what the broker answers and brings."""

    def __init__(self, settings: BrokerSettings, client_id: str, bell: Ringer) -> None:
        """Set up; nothing is sent yet. Raises BrokerError where the certificates do not load.

        `bell` is rung from paho's thread and belongs to it from here on.
        """
        self._settings = settings
        self._bell = bell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._topics: Sequence[str] = ()
        self._connection = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        self._client.max_inflight_messages_set(settings.inflight)
        self._client.max_queued_messages_set(0)  # our outbox bounds them
        self._client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        if settings.username is not None:
            password = settings.password
            self._client.username_pw_set(
                settings.username, None if password is None else password.get_secret_value()
            )
        if settings.tls:
            self._set_tls()

    def start(self, will_topic: str, will: str, topics: Sequence[str] = ()) -> None:
        """Connect in the background, for as long as it takes, stay connected, and subscribe.

        What is sent to `topics` while we are away comes when we are back.
        """
        self._topics = topics
        self._client.will_set(will_topic, will, qos=1, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = RECEIVE_MAX
        properties.MaximumPacketSize = RECEIVE_MAX_BYTES
        self._client.connect_async(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> int:
        """Hand a message to paho, which repeats it over reconnects; return its packet id."""
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def acknowledge(self, message: Arrived) -> None:
        """Tell the broker that a message is ours now; one of an earlier connection comes again.

        In the order in which they are dealt with: a camera that is away must not hold up others.
        """
        if message.connection == self._connection:
            self._client.ack(message.mid, message.qos)

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        found = []
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found

    def stop(self) -> None:
        """Disconnect in an orderly way: the last will is not sent."""
        self._client.disconnect()
        # paho's thread forgets itself when it ends, perhaps after `loop_stop` has seen it.
        with suppress(AttributeError):
            self._client.loop_stop()

    def _set_tls(self) -> None:
        settings = self._settings
        try:
            self._client.tls_set(
                ca_certs=_text(settings.ca_file),
                certfile=_text(settings.cert_file),
                keyfile=_text(settings.key_file),
                tls_version=ssl.PROTOCOL_TLS_CLIENT,
            )
        except (OSError, ValueError) as error:
            msg = f"the broker's certificates do not load ({error}); check broker.*_file"
            raise BrokerError(msg) from error

    def _tell(self, event: Event) -> None:
        self._events.put(event)
        self._bell.ring()

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del userdata, flags
        if reason.is_failure:
            self._tell(Disconnected(f"the broker refuses us: {reason}"))
        else:
            self._connection += 1
            if self._topics:
                # A retained trigger is an old one.
                options = SubscribeOptions(
                    qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
                )
                client.subscribe([(topic, options) for topic in self._topics])
            limits = ("MaximumPacketSize", "ReceiveMaximum")
            self._tell(Connected(*(getattr(properties, name, None) for name in limits)))

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, userdata, flags, properties
        self._tell(Disconnected(f"connection lost: {reason}"))

    def _on_connect_fail(self, client: mqtt.Client, userdata: Any) -> None:
        del client, userdata
        where = f"{self._settings.host}:{self._settings.port}"
        self._tell(Disconnected(f"the broker at {where} does not answer"))

    def _on_publish(
        self,
        client: mqtt.Client,
        userdata: Any,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        del client, userdata, properties
        self._tell(Acknowledged(mid, str(reason) if reason.is_failure else None))

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        del client, userdata
        self._tell(
            Arrived(
                message.topic,
                bytes(message.payload),
                message.mid,
                int(message.qos),
                self._connection,
            )
        )

    def _on_subscribe(
        self,
        client: mqtt.Client,
        userdata: Any,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        del client, userdata, mid, properties
        refused = [
            f"{topic}: {reason}"
            for topic, reason in zip(self._topics, reasons, strict=False)
            if reason.is_failure
        ]
        self._tell(Subscribed("; ".join(refused) or None))


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
