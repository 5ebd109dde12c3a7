"""A network camera: a real RTSP server in a process of its own, whose pictures show their time."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.pixels import Pixels
from support.children import environment
from support.mosquitto import answers, free_port
from support.waiting import wait_until

WIDTH, HEIGHT = 160, 120
BLOCK = 8
BITS = 40
FPS = 25.0
TESTS = Path(__file__).parents[1]


class Exposures:
    """What a sensor sees that exposes at a fixed rate, also while the network stands still.

    Each picture is red and carries the time of its exposure (the machine's monotonic clock, in
    milliseconds) as black and white blocks: they survive the video's compression.
    """

    def __init__(self, fps: float) -> None:
        self._period_ms = 1000 / fps
        self._first_ms = time.monotonic() * 1000
        self._count = 0

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.uint8]:
        """Return the next picture: the server takes one each time that one is due."""
        del dtype, copy
        exposed_ms = round(self._first_ms + self._count * self._period_ms)
        self._count += 1
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[:, :, 0] = 255
        for bit in range(BITS):
            rows, columns = _block(bit)
            picture[rows, columns] = 255 * (exposed_ms >> bit & 1)
        return picture


def _block(bit: int) -> tuple[slice, slice]:
    row, column = divmod(bit, WIDTH // BLOCK)
    return (
        slice(BLOCK * row, BLOCK * (row + 1)),
        slice(BLOCK * column, BLOCK * (column + 1)),
    )


def exposed_ms(pixels: Pixels) -> int:
    """Return when a picture was exposed, as it shows: the monotonic clock's milliseconds."""
    return sum(int(pixels[_block(bit)].mean() > 127) << bit for bit in range(BITS))


class NetworkCamera:
    """The camera, as `support.counterparts` has it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self.source: dict[str, Any] = {"kind": "rtsp", "url": self.url}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [sys.executable, "-m", "support.rtsp", str(self.port)]
        self._process = subprocess.Popen(command, cwd=TESTS, env=environment())
        wait_until(lambda: answers(self.port), 20, "the RTSP server does not answer")

    def kill(self) -> None:
        """End it with SIGKILL, where it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        """Say whether it was started, and not killed since."""
        return self._process is not None

    def freeze(self) -> None:
        """Stop it: its sensor goes on, and what it saw comes in a burst after `thaw`."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, where it runs."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def network_camera() -> Iterator[NetworkCamera]:
    """Make one, not yet started; it is killed at the end."""
    made = NetworkCamera()
    try:
        yield made
    finally:
        made.kill()


def _serve(port: int) -> None:
    import rtsp.source as library

    served = library._RTSPServer
    # Of its own it would listen on every address of the machine.
    library._RTSPServer = lambda _host, port, sdp: served("127.0.0.1", port, sdp)
    source = library.Source(f"rtsp://127.0.0.1:{port}/cam", fps=FPS, size=(WIDTH, HEIGHT))
    source._buffer.append(Exposures(FPS))
    source.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
