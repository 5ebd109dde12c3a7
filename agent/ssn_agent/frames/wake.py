"""Wake a process that sleeps. The journal holds the truth; a lost ring costs one poll."""

from contextlib import suppress
from pathlib import Path

import zmq


class Doorbell:
    """The side that sleeps: binds a socket file and waits."""

    def __init__(self, path: Path) -> None:
        """Bind; ZeroMQ replaces the socket file of a process that died."""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, 64)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"ipc://{path}")

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """For polling beside other sources."""
        return self._socket

    def wait(self, timeout_s: float) -> bool:
        """Sleep until rung or until the time is up; say whether it rang. Empties the backlog."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return False
        with suppress(zmq.Again):
            while True:
                self._socket.recv(zmq.NOBLOCK)
        return True

    def close(self) -> None:
        """Unbind."""
        self._socket.close()


class Ringer:
    """The side that rings; never blocks, and never fails where nobody is home."""

    def __init__(self, path: Path) -> None:
        """Connect, also while nobody has bound yet."""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Without this, rings pile up towards a process that is not there.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.connect(f"ipc://{path}")

    def ring(self) -> None:
        """Wake the other side, where there is one."""
        with suppress(zmq.Again):
            self._socket.send(b"", zmq.NOBLOCK)

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
