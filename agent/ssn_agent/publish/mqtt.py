"""The line to the broker: MQTT 5 over paho. Its thread only notes what happened and rings."""

import queue
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ssn_agent.errors import BrokerError
from ssn_agent.frames.wake import Ringer
from ssn_agent.settings import BrokerSettings

RECONNECT_MIN_S = 1
RECONNECT_MAX_S = 15


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


Event = Connected | Disconnected | Acknowledged


class BrokerLink:
    """Publishes at QoS 1 and reports, as events, what the broker answers."""

    def __init__(self, settings: BrokerSettings, client_id: str, bell: Ringer) -> None:
        """Set up; nothing is sent yet. Raises BrokerError where the certificates do not load.

        `bell` is rung from paho's thread and belongs to it from here on.
        """
        self._settings = settings
        self._bell = bell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5
        )
        self._client.max_inflight_messages_set(settings.inflight)
        self._client.max_queued_messages_set(0)  # our outbox bounds them
        self._client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_publish = self._on_publish
        if settings.username is not None:
            password = settings.password
            self._client.username_pw_set(
                settings.username, None if password is None else password.get_secret_value()
            )
        if settings.tls:
            self._set_tls()

    def start(self, will_topic: str, will: str) -> None:
        """Connect in the background, for as long as it takes, and stay connected."""
        self._client.will_set(will_topic, will, qos=1, retain=True)
        self._client.connect_async(
            self._settings.host, self._settings.port, keepalive=self._settings.keepalive_s
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> int:
        """Hand a message to paho, which repeats it over reconnects; return its packet id."""
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

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
        del client, userdata, flags
        if reason.is_failure:
            self._tell(Disconnected(f"the broker refuses us: {reason}"))
        else:
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


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
