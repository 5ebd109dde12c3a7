"""A network camera of 512 x 512 pixels, as fast as its server makes them: for the full rate."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from support import rtsp
from support.children import environment
from support.mosquitto import answers
from support.waiting import wait_until

FPS = 500.0
"""More than the server does on two cores."""


class FastCamera(rtsp.NetworkCamera):
    """The same server with other pictures."""

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [sys.executable, "-m", "cameras.fast_rtsp", str(self.port)]
        self._process = subprocess.Popen(command, cwd=rtsp.TESTS, env=environment())
        wait_until(lambda: answers(self.port), 20, "the RTSP server does not answer")


@contextmanager
def network_camera() -> Iterator[FastCamera]:
    """Make one, not yet started; it is killed at the end."""
    made = FastCamera()
    try:
        yield made
    finally:
        made.kill()


if __name__ == "__main__":
    rtsp.WIDTH = rtsp.HEIGHT = 512
    rtsp.FPS = FPS
    rtsp._serve(int(sys.argv[1]))
