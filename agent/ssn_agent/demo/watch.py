"""A subscriber like a line controller's or a dashboard's: it knows the contract alone."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from ssn_agent.errors import BrokerError
from ssn_contract.messages import Verdict
from ssn_contract.topics import Topics, parse_camera_topic

Key = tuple[str, UUID, int]


class Watcher:
    """Takes verdicts and heatmaps; tells repeated verdicts by their key."""

    def __init__(self, port: int, topics: Topics, on_verdict: Callable[[Verdict], None]) -> None:
        """Connect to 127.0.0.1. Raises BrokerError."""
        self.verdicts: dict[Key, Verdict] = {}
        self.heatmaps: dict[int, bytes] = {}
        self.delays_ms: list[float] = []
        """From trigger to arrival here, by the wall clock of this machine."""
        self.problems: list[str] = []
        self._on_verdict = on_verdict
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = self._take
        try:
            self._client.connect("127.0.0.1", port)
        except OSError as error:
            msg = f"the demo's broker does not answer on 127.0.0.1:{port} ({error})"
            raise BrokerError(msg) from error
        self._client.subscribe([(f"{topics.root}/+/verdict", 1), (f"{topics.root}/+/heatmap/+", 1)])
        self._client.loop_start()

    def counts(self) -> Counter[str]:
        """Return verdicts by kind."""
        return Counter(verdict.verdict.value for verdict in self.verdicts.values())

    def wait_for(self, verdicts: int, timeout_s: float) -> None:
        """Wait until that many verdicts are here, or until the time is up."""
        ends_at = time.monotonic() + timeout_s
        while len(self.verdicts) < verdicts and time.monotonic() < ends_at:
            time.sleep(0.01)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        del client, userdata
        try:
            topic = parse_camera_topic(message.topic)
            if topic.sequence is not None:
                self.heatmaps[topic.sequence] = bytes(message.payload)
                return
            verdict = Verdict.model_validate_json(message.payload)
        except (ValueError, ValidationError) as error:
            self.problems.append(f"{message.topic}: {error}")
            return
        key = (verdict.camera, verdict.epoch, verdict.sequence)
        if key in self.verdicts:
            return
        self.verdicts[key] = verdict
        self.delays_ms.append(1000 * (time.time() - verdict.triggered_at.timestamp()))
        self._on_verdict(verdict)
