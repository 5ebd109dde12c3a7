"""The witness's subscriber: `python -m chaos.subscriber PORT FILE`, until SIGTERM.

Keeps every verdict message that the broker delivers, with the time of its arrival, before it
acknowledges it. Its session outlives the connection: what comes while the broker is away is asked
for again, and what comes while it is away waits at the broker.
"""

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from chaos.lines import LinesWriter

TOPIC = "ssn/v1/+/+/+/+/verdict"
KEPT = (
    *("camera", "epoch", "sequence", "part_id"),
    *("verdict", "reason", "score", "durable", "historical", "latency_ms"),
)
SESSION_S = 3600


class Subscriber:
    """One session at the broker."""

    def __init__(self, port: int, path: Path) -> None:
        self._lines = LinesWriter(path)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id="witness",
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = self._note_subscribed
        self._client.on_message = self._take
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it open
        session.SessionExpiryInterval = SESSION_S
        self._client.connect_async("127.0.0.1", port, 5, clean_start=False, properties=session)

    def run(self) -> None:
        """Receive until the process is told to end."""
        self._client.loop_start()
        signal.sigwait({signal.SIGTERM})
        self._client.disconnect()
        with suppress(AttributeError):  # paho's thread forgets itself when it ends
            self._client.loop_stop()

    def _subscribe(self, client: mqtt.Client, *rest: Any) -> None:
        del rest
        client.subscribe(TOPIC, qos=1)

    def _note_subscribed(self, *rest: Any) -> None:
        del rest
        self._lines.append(event="subscribed", at=time.monotonic())

    def _take(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        del userdata
        verdict = json.loads(message.payload)
        kept = {name: verdict[name] for name in KEPT}
        self._lines.append(event="verdict", **kept, at=time.monotonic())
        client.ack(message.mid, message.qos)


def main(port: str, path: str) -> None:
    """Run until asked to stop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also in paho's thread
    Subscriber(int(port), Path(path)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
