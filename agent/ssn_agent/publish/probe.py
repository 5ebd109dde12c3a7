"""One connection to the broker, to see whether it takes us and what it allows."""

import logging
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ssn_agent.errors import BrokerError
from ssn_agent.publish.certificates import load, shake_hands, why
from ssn_agent.publish.mqtt import SESSION_S
from ssn_agent.publish.settings import BrokerSettings

WAIT_S = 5.0
TURN_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What a broker allows (MQTT 5, 3.2.2.3)."""

    packet_bytes: int | None
    """None: any."""
    inflight: int
    qos: int
    """The highest."""
    retains: bool
    """It keeps messages for those that come later."""
    certificate_end: datetime | None
    """When its certificate ends; None where it shows none."""


def reach(settings: BrokerSettings) -> datetime | None:
    """Connect, shake hands where TLS is spoken, and leave: no broker takes that for a client.

    Return when its certificate ends, where it shows one. Raises BrokerError.
    """
    try:
        if settings.tls:
            return shake_hands(settings, load(settings))
        socket.create_connection((settings.host, settings.port), WAIT_S).close()
    except (OSError, ValueError) as error:  # a name that is none is the latter
        msg = f"no connection to {settings.host}:{settings.port}: {why(error)}"
        raise BrokerError(msg) from error
    return None


def probe(settings: BrokerSettings, client_id: str) -> Limits:
    """Connect as a client, and leave in order, without a word to others. Raises BrokerError.

    The session of that name stays as it is, with all that waits in it; a client of that name that
    is connected would be cut off: a broker may know us by our certificate, whatever name we give.
    """
    end = reach(settings)
    where = f"{settings.host}:{settings.port}"
    found: list[Limits] = []
    problems: list[str] = []

    def on_connect(
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, userdata, flags
        if reason.is_failure:
            problems.append(f"it refuses us: {reason}; check broker.username and password")
        else:
            found.append(_limits(properties, end))

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=mqtt.MQTTv5,
        manual_ack=True,  # what waits in the session is its owner's
    )
    client.on_connect = on_connect
    client.enable_logger(_errors(problems))
    if settings.username is not None:
        secret = settings.password
        client.username_pw_set(
            settings.username, None if secret is None else secret.get_secret_value()
        )
    if settings.tls:
        client.tls_set_context(load(settings))
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
    properties.SessionExpiryInterval = SESSION_S
    try:
        client.connect_timeout = WAIT_S
        client.connect(settings.host, settings.port, clean_start=False, properties=properties)
    except (OSError, ValueError) as error:  # a name that is none is the latter
        raise BrokerError(f"no connection to {where}: {why(error)}") from error
    ends_at = time.monotonic() + WAIT_S
    code = MQTTErrorCode.MQTT_ERR_SUCCESS
    while not found and not problems and code == MQTTErrorCode.MQTT_ERR_SUCCESS:
        if time.monotonic() >= ends_at:
            problems.append(f"it says nothing for {WAIT_S:g} s; is that a broker for MQTT 5?")
        code = client.loop(TURN_S)
    client.disconnect()
    if not found:
        raise BrokerError(f"no connection to {where}: {_first(problems)}")
    return found[0]


def _limits(properties: Properties | None, end: datetime | None) -> Limits:
    return Limits(
        packet_bytes=getattr(properties, "MaximumPacketSize", None),
        inflight=getattr(properties, "ReceiveMaximum", 65_535),
        qos=getattr(properties, "MaximumQoS", 2),
        retains=bool(getattr(properties, "RetainAvailable", 1)),
        certificate_end=end,
    )


def _first(problems: list[str]) -> str:
    return problems[0] if problems else "it closed the connection; see its log"


def _errors(problems: list[str]) -> logging.Logger:
    """Return a logger that keeps what paho only logs: why a socket failed."""

    def keep(record: logging.LogRecord) -> bool:
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(error, OSError):
            problems.append(why(error))
        return False

    errors = logging.Logger("paho", logging.ERROR)
    errors.addFilter(keep)
    return errors
