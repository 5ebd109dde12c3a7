"""A site as `ssn-agent provision` makes it: its broker as configured, and who talks to it."""

import queue
import signal
import ssl
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ssn_agent.provision.register import ClientRole
from ssn_agent.provision.site import Provisioner, changing, make_site
from support.mosquitto import free_port, program
from support.waiting import wait_until

SITE = "plant1"
PASSPHRASE = b"correct horse battery staple"
WAIT_S = 10


@dataclass
class ProvisionedSite:
    """Its folder, and its broker on a free port of 127.0.0.1."""

    root: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def made(cls, root: Path, now: datetime | None = None) -> "ProvisionedSite":
        """Make its authority, as of `now`."""
        site = cls(root)
        make_site(site.folder, SITE, ["localhost", "127.0.0.1"], lambda: PASSPHRASE, now or _now())
        (root / "persisted").mkdir()
        return site

    @property
    def folder(self) -> Path:
        """Return what `provision` keeps."""
        return self.root / "site"

    def station(self, name: str, now: datetime | None = None) -> Path:
        """Make a station's files; return its folder."""
        with self.changing() as provisioner:
            return provisioner.station(f"{SITE}/{name}", now or _now())

    def client(self, name: str, role: ClientRole, line: str | None = None) -> Path:
        """Make a client's files; return its PEM file."""
        with self.changing() as provisioner:
            return provisioner.client(name, role, line, _now()) / "client.pem"

    def changing(self) -> AbstractContextManager[Provisioner]:
        """Open it for changes."""
        return changing(self.folder, lambda: PASSPHRASE)

    def start(self) -> None:
        """Start the broker as it is installed, but for places and the user."""
        text = (self.folder / "broker" / "mosquitto.conf").read_text()
        for ours, here in (
            ("listener 8883\n", f"listener {self.port} 127.0.0.1\nuser root\n"),
            ("/etc/mosquitto/ssn/", f"{self.folder / 'broker'}/"),
            ("/var/lib/mosquitto/", f"{self.root / 'persisted'}/"),
        ):
            assert ours in text
            text = text.replace(ours, here)
        config = self.root / "mosquitto.conf"
        config.write_text(text)
        before = self.log().count(" running\n")
        with (self.root / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([program("mosquitto"), "-c", str(config)], stderr=log)
        # It answers before it heeds signals.
        wait_until(lambda: self.log().count(" running\n") > before, WAIT_S, "no broker")

    def reload(self) -> None:
        """Have the broker read certificates, revocations and rights again."""
        assert self.process is not None
        before = self.log().count("Reloading config")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count("Reloading config") > before, WAIT_S, "no reload")

    def stop(self) -> None:
        """End the broker in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """Return what the broker has logged."""
        path = self.root / "mosquitto.log"
        return path.read_text() if path.exists() else ""


class Peer:
    """A client that speaks MQTT 5 with a certificate, and keeps what comes."""

    def __init__(
        self,
        site: ProvisionedSite,
        pem: Path | None,
        client_id: str = "",
        session_s: int = 0,
        newest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        """Connect. Raises OSError or ConnectionError where the broker does not take it."""
        self.messages: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        context = ssl.create_default_context(cafile=str(site.folder / "ca.pem"))
        context.maximum_version = newest_tls
        if pem is not None:
            context.load_cert_chain(pem)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(0)
        self._client.on_connect = lambda *a: self._answers.put(a[3])
        self._client.on_subscribe = lambda *a: self._answers.put(a[3][0])
        self._client.on_publish = lambda *a: self._answers.put(a[3])
        self._client.on_disconnect = lambda *a: self.closed.put(str(a[3]))
        self._client.on_message = lambda *a: self.messages.put((a[2].topic, a[2].payload))
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        properties.SessionExpiryInterval = session_s
        self._client.connect(
            "127.0.0.1", site.port, clean_start=session_s == 0, properties=properties
        )
        self._client.loop_start()
        wait_until(lambda: not (self._answers.empty() and self.closed.empty()), WAIT_S, "silence")
        if self._answers.empty() or self._answers.get().is_failure:
            self.close()
            raise ConnectionError(self.closed.get())

    def subscribe(self, topic: str) -> str:
        """Return what the broker says."""
        self._client.subscribe(topic, qos=1)
        return str(self._answers.get(timeout=WAIT_S))

    def publish(self, topic: str, payload: bytes | str = b"x") -> str | None:
        """Return why the broker refuses a message; None: it takes it."""
        self._client.publish(topic, payload, qos=1)
        answer = self._answers.get(timeout=WAIT_S)
        return str(answer) if answer.is_failure else None

    def broker_serial(self) -> str:
        """Return the serial number of the broker's certificate."""
        secured = self._client.socket()
        assert isinstance(secured, ssl.SSLSocket)
        return str((secured.getpeercert() or {})["serialNumber"])

    def next(self) -> tuple[str, bytes]:
        """Return the next message."""
        return self.messages.get(timeout=WAIT_S)

    def close(self) -> None:
        """End it in order."""
        self._client.disconnect()
        self._client.loop_stop()


def _now() -> datetime:
    return datetime.now(timezone.utc)
