"""What systemd is told of the service: sd_notify(3), a datagram a message."""

import os
import socket
import time
from collections import deque

from ssn_agent.log import logger

MAX_OWED = 100
"""Messages that a manager which takes none is owed, at most; the oldest are dropped."""
WATCHDOG_S = 1.0
"""How often it is told that all is well; a fraction of the unit's WatchdogSec."""


class Systemd:
    """The line to the service manager; silent where the agent is no service of its."""

    def __init__(self) -> None:
        """Take the manager's address out of the environment: what is started from here has none."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of a name that is in no file system.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._line.setblocking(False)
        self._owed: deque[str] = deque(maxlen=MAX_OWED)
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
        self._flush()
        if now >= self._well_at and not self._owed:
            self._well_at = now + WATCHDOG_S
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address:
            self._owed.append(message)
            self._flush()

    def _flush(self) -> None:
        """Send what is owed, in order, as far as the manager takes it: nobody here waits for it."""
        while self._owed:
            try:
                self._line.sendto(self._owed[0].encode(), self._address)
            except BlockingIOError:
                return  # its queue is full: at the next turn
            except OSError as error:
                logger().warning("systemd is not told", what=self._owed[0], problem=error.strerror)
            self._owed.popleft()
