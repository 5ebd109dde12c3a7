"""The line to the broker: MQTT 5 over paho. Its thread only notes what happened and rings.

Every connection has a paho client of its own, and nothing outlives it: what is not acknowledged
when it ends is the outbox' to send again. So paho repeats nothing by itself, which would be out of
order, past the limits of the broker that came back, or with an old mark.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ssn_agent.errors import BrokerError
from ssn_agent.frames.wake import Ringer
from ssn_agent.log import logger
from ssn_agent.publish.certificates import Certificates, why
from ssn_agent.publish.events import (
    Acknowledged,
    Arrived,
    Connected,
    Disconnected,
    Event,
    Subscribed,
)
from ssn_agent.publish.settings import BrokerSettings
from ssn_contract.topics import Station

RECONNECT_MIN_S = 1.0
RECONNECT_MAX_S = 5.0
LOOP_S = 0.1
"""How long a request to end, or to look at the certificates, waits at most."""
LEAVE_S = 3.0
"""How long the broker's answers are waited for before an orderly end."""
STOP_S = 10.0
WITH_WILL = 4
PACKET_OVERHEAD_BYTES = 16
"""What a packet has beside topic and payload, at most: ours have no properties."""
RENEWAL = "connecting anew, with certificates that were replaced"
SESSION_S = 3600
"""How long the broker keeps what is sent to us while we are away."""
RECEIVE_MAX = 32
"""Messages to us that are not acknowledged, at most: the broker holds the others back."""
RECEIVE_MAX_BYTES = 65536
"""Of a message to us; the broker discards what is larger."""


class BrokerLink:
    """Publishes and subscribes at QoS 1; reports, as events, what the broker answers and brings."""

    def __init__(self, settings: BrokerSettings, client_id: str, bell: Ringer) -> None:
        """Set up; nothing is sent yet. `bell` is rung from the line's thread, which owns it."""
        self._settings = settings
        self._client_id = client_id
        self._bell = bell
        self._certificates = Certificates(settings)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._will: tuple[str, str] = ("", "")
        self._topics: Sequence[str] = ()
        self._retained: Sequence[str] = ()
        self._ending = threading.Event()
        self._says_will = False
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        # Of the line's thread: the connection that stands, and why the last one ended.
        self._client: mqtt.Client | None = None
        self._connection = 0
        self._problem: str | None = None
        self._answered = 0
        self._lock = threading.Lock()
        # Of the caller's thread: the connection that it has been told of.
        self._known_connection: int | None = None
        self._sent = 0
        self._allowed = 0
        self._unacknowledged: set[int] = set()
        self._max_packet_bytes: int | None = None
        self._too_large: set[str] = set()

    @property
    def room(self) -> int:
        """Return how many messages may be published now; 0 while there is no connection."""
        if self._client is None or self._known_connection != self._connection:
            return 0
        return max(0, self._allowed - len(self._unacknowledged))

    @property
    def problem(self) -> str | None:
        """Return why certificates that were replaced are not in force; None while all is well."""
        return self._certificates.problem

    @property
    def certificates(self) -> Certificates:
        """Return what the line is secured with, to be read alone."""
        return self._certificates

    def start(
        self,
        will_topic: str,
        will: str,
        topics: Sequence[str] = (),
        retained: Sequence[str] = (),
    ) -> None:
        """Connect in the background, for as long as it takes, stay connected, and subscribe.

        What is sent to `topics` and `retained` while we are away comes when we are back; of
        `retained` also, where we are new to the broker, what it has kept.
        """
        self._will = (will_topic, will)
        self._topics, self._retained = (*topics, *retained), retained
        self._thread.start()

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> int | None:
        """Send a message and return its packet id, for as long as the connection lasts.

        None where there is no room for it, or no connection: nothing is sent.
        """
        with self._lock:
            if self._client is None or not self.room:
                return None
            mid = self._client.publish(topic, payload, qos=1, retain=retain).mid
            self._sent += 1
        self._unacknowledged.add(mid)
        return mid

    def takes(self, topic: str, payload: str | bytes) -> bool:
        """Say whether the broker takes a message of this size: a larger one ends the connection.

        What it does not take is logged, once for its topic and connection.
        """
        problem = oversize(topic, payload, self._max_packet_bytes)
        if problem is not None and topic not in self._too_large:
            self._too_large.add(topic)
            logger().error("message too large", topic=topic, problem=f"{problem}; raise its limit")
        return problem is None

    def acknowledge(self, message: Arrived) -> None:
        """Tell the broker that a message is ours now; one of an earlier connection comes again.

        In the order in which they are dealt with: a camera that is away must not hold up others.
        """
        with self._lock:
            if self._client is not None and message.connection == self._connection:
                self._client.ack(message.mid, message.qos)

    def look_at_certificates(self) -> None:
        """Take up files that were replaced: connect anew, in order, where they are sound."""
        self._certificates.ask()

    def events(self) -> list[Event]:
        """Return what has happened since the last call. Raises BrokerError where the line broke."""
        found = []
        while not self._events.empty():
            event = self._events.get_nowait()
            match event:
                case Connected(max_packet_bytes, max_inflight, connection):
                    self._max_packet_bytes = max_packet_bytes
                    self._too_large.clear()
                    self._known_connection = connection
                    self._allowed = min(self._settings.inflight, max_inflight or 65535)
                    self._unacknowledged.clear()
                case Disconnected():
                    self._known_connection = None
                case Acknowledged(mid):
                    self._unacknowledged.discard(mid)
            found.append(event)
        if self._thread.ident is not None and not self._thread.is_alive():
            raise BrokerError("the line to the broker has broken; the log says where")
        return found

    def stop(self, *, with_will: bool = False) -> None:
        """Disconnect in an orderly way; the broker sends the last will only where asked to."""
        self._says_will = with_will
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        """Connect again and again; in the line's thread, as all that follows."""
        delay_s = RECONNECT_MIN_S
        while not self._ending.is_set():
            before = self._connection
            reason = self._hold_connection()
            self._tell(Disconnected(reason))
            if self._connection > before:
                delay_s = RECONNECT_MIN_S
            if reason != RENEWAL:
                self._ending.wait(delay_s)
                delay_s = min(2 * delay_s, RECONNECT_MAX_S)

    def _hold_connection(self) -> str:
        """Connect once, for as long as it lasts; return why it ended."""
        where = f"{self._settings.host}:{self._settings.port}"
        self._certificates.look()
        if self._settings.tls and self._certificates.context is None:
            return str(self._certificates.problem)
        client = self._new_client()
        self._problem = None
        before = self._connection
        try:
            self._connect(client)
        except (OSError, ValueError) as error:  # a name that is none is the latter
            return _no_connection(where, why(error))
        leaving = False
        while client.loop(LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if not leaving and (self._ending.is_set() or self._certificates.renewed()):
                self._leave(client)
                leaving = True
        with self._lock:
            self._client = None
        if leaving:
            return RENEWAL
        if self._connection > before:
            return f"connection to {where} lost: {self._problem}"
        return _no_connection(where, str(self._problem))

    def _leave(self, client: mqtt.Client) -> None:
        """Disconnect in order, when all that was sent is answered.

        An answer that is unread when paho closes the socket has the kernel reset the connection:
        our last words are lost with it, and the broker sends the will.
        """
        with self._lock:
            self._client = None
        until = time.monotonic() + LEAVE_S
        while self._answered < self._sent and time.monotonic() < until:
            if client.loop(LOOP_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return
        word = WITH_WILL if self._says_will and self._ending.is_set() else 0
        client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=word))

    def _new_client(self) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        client.max_inflight_messages_set(0)  # `room` bounds them
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        # Without it `publish` writes to the socket from its caller's thread, beside this one.
        client.on_socket_register_write = lambda *_: None
        client.enable_logger(self._paho_errors())
        client.will_set(*self._will, qos=1, retain=True)
        if settings.username is not None:
            password = settings.password
            client.username_pw_set(
                settings.username, None if password is None else password.get_secret_value()
            )
        if self._certificates.context is not None:
            client.tls_set_context(self._certificates.context)
        return client

    def _connect(self, client: mqtt.Client) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = RECEIVE_MAX
        properties.MaximumPacketSize = RECEIVE_MAX_BYTES
        client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=False,
            properties=properties,
        )

    def _paho_errors(self) -> logging.Logger:
        """Return a logger that keeps what paho only logs: why a socket failed."""

        def keep(record: logging.LogRecord) -> bool:
            error = record.args[0] if isinstance(record.args, tuple) and record.args else None
            if isinstance(error, OSError):
                self._problem = why(error)
            return False

        errors = logging.Logger("paho", logging.ERROR)
        errors.addFilter(keep)
        return errors

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
            self._problem = f"it refuses us: {reason}"
            return
        self._certificates.met(client.socket())
        with self._lock:
            self._client = client
            self._connection += 1
            self._sent = self._answered = 0
        if self._topics:
            client.subscribe([(topic, self._options(topic)) for topic in self._topics])
        max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        max_inflight = getattr(properties, "ReceiveMaximum", None)
        self._tell(Connected(max_packet_bytes, max_inflight, self._connection))

    def _options(self, topic: str) -> SubscribeOptions:
        # A retained trigger is an old one.
        never, once = SubscribeOptions.RETAIN_DO_NOT_SEND, SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        return SubscribeOptions(qos=1, retainHandling=once if topic in self._retained else never)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, userdata, properties
        if flags.is_disconnect_packet_from_server:
            self._problem = str(reason)
        elif self._problem is None:
            closed = reason.getName() == "Unspecified error"
            self._problem = "it closed the connection" if closed else str(reason)

    def _on_publish(
        self,
        client: mqtt.Client,
        userdata: Any,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        del client, userdata, properties
        self._answered += 1
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


def client_id(station: Station) -> str:
    """Return the name that a station's agent connects by: of one name a broker holds one."""
    return f"ssn-{station}".replace("/", "-")


def oversize(topic: str, payload: str | bytes, limit: int | None) -> str | None:
    """Say why a broker with this limit of a packet does not take a message; None: it does."""
    size = len(payload.encode() if isinstance(payload, str) else payload)
    size += len(topic.encode()) + PACKET_OVERHEAD_BYTES
    if limit is None or size <= limit:
        return None
    return f"{size} bytes; the broker takes packets up to {limit}"


def _no_connection(where: str, reason: str) -> str:
    """Say that it was not made, why, and what to look at."""
    look_at = "" if "check" in reason else "; check the settings of [broker]"
    return f"no connection to {where}: {reason}{look_at}"
