"""Telling stations that a channel names something new: one retained message to their broker."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import ValidationError

from ssn_agent.publish.certificates import load, why
from ssn_agent.publish.settings import BrokerSettings
from ssn_contract.channel import Announcement, ChannelName
from ssn_contract.topics import Station, channel_topic
from ssn_trainer.errors import PublishError, UsageError

PORT, TLS_PORT = 1883, 8883
WAIT_S = 10.0
"""For connection and acknowledgement together."""
_LOOP_S = 0.1


def broker_of(address: str, password_file: Path | None, **options: Any) -> BrokerSettings:
    """Return the broker at HOST[:PORT], with options of `BrokerSettings`. Raises UsageError."""
    try:
        parts = urlsplit(f"//{address}")
        host, given = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"broker {address}: {error}") from error
    if host is None or parts.netloc != address or "@" in address:
        msg = f"broker {address}: write it as HOST or HOST:PORT"
        raise UsageError(msg)
    port = given or (TLS_PORT if options.get("tls") else PORT)
    try:
        password = None if password_file is None else password_file.read_text("utf-8").rstrip("\n")
        described = {"host": host, "port": port, "password": password, **options}
        return BrokerSettings.model_validate(described)
    except OSError as error:
        msg = f"{password_file}: the password cannot be read ({error.strerror})"
        raise UsageError(msg) from error
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = (": ".join([*map(str, p["loc"]), p["msg"]]) for p in found)
        raise UsageError(f"broker {address}: {'; '.join(problems)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{password_file}: holds no UTF-8 text") from error


def announce(broker: BrokerSettings, site: str, channel: ChannelName, at: datetime) -> str:
    """Publish it, and return its topic when the broker has it.

    Raises UsageError where the site is no name, BrokerError where certificates do not load, and
    PublishError where the broker is away or refuses it.
    """
    try:
        topic = channel_topic(Station(site=site).site, channel)
    except ValidationError as error:
        msg = f"site {site!r}: is no name of a site; give the stations' own (station.site)"
        raise UsageError(msg) from error
    message = Announcement(schema_version=1, channel=channel, at=at)
    _Delivery(broker).deliver(topic, message.model_dump_json())
    return topic


class _Delivery:
    """One message at QoS 1, over a connection of its own."""

    def __init__(self, broker: BrokerSettings) -> None:
        self._where = f"{broker.host}:{broker.port}"
        self._broker = broker
        self._is_connected = self._is_done = False
        self._problem: str | None = None
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        client.connect_timeout = WAIT_S
        if broker.username is not None:
            password = broker.password
            client.username_pw_set(
                broker.username, None if password is None else password.get_secret_value()
            )
        if broker.tls:
            client.tls_set_context(load(broker))
        self._client = client

    def deliver(self, topic: str, text: str) -> None:
        """Publish it, retained, and wait for the acknowledgement. Raises PublishError."""
        until = time.monotonic() + WAIT_S
        try:
            self._client.connect(self._broker.host, self._broker.port)
        except (OSError, ValueError) as error:  # a name that is none is the latter
            raise self._failed(f"no connection: {why(error)}") from error
        is_sent = False
        while not self._is_done and self._problem is None:
            if self._client.loop(_LOOP_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise self._failed(self._problem or "it closed the connection")
            if self._is_connected and not is_sent:
                self._client.publish(topic, text, qos=1, retain=True)
                is_sent = True
            if time.monotonic() >= until:
                raise self._failed(f"it has not answered within {WAIT_S:.0f} s")
        self._client.disconnect()
        if self._problem is not None:
            raise self._failed(self._problem)

    def _failed(self, problem: str) -> PublishError:
        return PublishError(f"broker {self._where}: {problem}; nothing is announced")

    def _on_connect(
        self, client: mqtt.Client, userdata: object, flags: object, reason: ReasonCode, _: object
    ) -> None:
        del client, userdata, flags
        self._is_connected = not reason.is_failure
        if reason.is_failure:
            self._problem = f"it refuses us ({reason}); check --username and --password-file"

    def _on_publish(
        self, client: mqtt.Client, userdata: object, mid: int, reason: ReasonCode, _: object
    ) -> None:
        del client, userdata, mid
        self._is_done = not reason.is_failure
        if reason.is_failure:
            self._problem = f"it refuses the message ({reason}); check its access list"
