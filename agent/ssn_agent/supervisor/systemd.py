"""What systemd is told of the service: sd_notify(3), a datagram a message."""

import os
import socket
import time

from ssn_agent.log import logger

SEND_S = 1.0
WATCHDOG_S = 1.0
"""How often it is told that all is well; a fraction of the unit's WatchdogSec."""


class Systemd:
    """The line to the service manager; silent where the agent is no service of its."""

    def __init__(self) -> None:
        """Take the manager's address out of the environment: what is started from here has none."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._is_ready = False
        self._well_at = 0.0

    def ready(self) -> None:
        """Say, once, that the service runs."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        """Say that the settings are being read again; `reloaded` follows."""
        if self._is_ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Say that this is done."""
        if self._is_ready:
            self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun, which has its own time-out."""
        self._send("STOPPING=1\nSTATUS=closing what is pending")

    def status(self, text: str) -> None:
        """Say how things are, in a line for people."""
        self._send(f"STATUS={text}")

    def well(self, now: float) -> None:
        """Feed the watchdog, now and then."""
        if now >= self._well_at:
            self._well_at = now + WATCHDOG_S
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of a name that is in no file system.
        address = self._address.replace("@", "\0", 1)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(SEND_S)
                line.sendto(message.encode(), address)
        except OSError as error:
            logger().warning("systemd is not told", message=message, problem=str(error))
