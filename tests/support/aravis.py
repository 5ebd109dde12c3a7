"""A GigE Vision camera in a process of its own: Aravis' fake one, on 127.0.0.1.

GigE Vision has one port for all cameras, so there is one on this machine at a time: who comes
second waits for the first to end.
"""

import ctypes
import fcntl
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ssn_agent.capture.drivers.gvcp import PORT, Device
from support.children import environment
from support.mosquitto import program
from support.waiting import wait_until

TURN_S = 600.0
"""For the camera of another test, or of a soak's row."""
FAKE = "arv-fake-gv-camera-0.8"
ADDRESS = "127.0.0.1"
SERIAL = "SSN-TEST"
USER_NAME = "ssn left"
"""Of the one with pixels of one's own."""
FIRST_ID = 65401
"""Of the frames after its start: it comes soon to where 16 bits begin anew."""
_USER_NAME_AT = 0xE8
_ASK = b"\x42\x01\x00\x02\x00\x00\x00\x01"
_FILL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32
)


class AravisCamera:
    """The counterpart; see `support.counterparts`."""

    def __init__(self, *, lost_per_thousand: int = 0, pixels: Path | None = None) -> None:
        """Set up; nothing is started yet.

        Of its packets so many get lost. `pixels` are the bytes of every picture, in place of a
        drawn pattern: as many as the camera is set to. It then has a user-defined name.
        """
        self.source: dict[str, Any] = {"kind": "gige", "device": ADDRESS, "packet_size": 1400}
        self._command = [program(FAKE), "-i", ADDRESS, "-s", SERIAL, "-r", str(lost_per_thousand)]
        if pixels is not None:
            self._command = [sys.executable, __file__, str(pixels)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; return when it answers."""
        # It ends with the tests, however those end.
        command = [program("setpriv"), "--pdeathsig", "KILL", *self._command]
        self._process = subprocess.Popen(command, env=environment())
        wait_until(self._answers, 20, "the camera does not answer")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the camera has ended; is another one running?"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, suppress(OSError):
            asking.settimeout(0.2)
            asking.connect((ADDRESS, PORT))
            asking.send(_ASK)
            device = Device.from_answer(asking.recv(1024))
            return device is not None and device.serial == SERIAL
        return False

    def kill(self) -> None:
        """End it at once: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it where it stands: SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on: SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def aravis_camera(
    *, lost_per_thousand: int = 0, pixels: Path | None = None
) -> Iterator[AravisCamera]:
    """Run one, when no other does; see `AravisCamera`."""
    lock = Path(tempfile.gettempdir()) / "ssn-gige-camera.lock"
    with lock.open("w") as held:
        wait_until(lambda: _is_locked(held), TURN_S, "another test's camera runs and does not end")
        camera = AravisCamera(lost_per_thousand=lost_per_thousand, pixels=pixels)
        camera.start()
        try:
            yield camera
        finally:
            camera.kill()


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _serve(pixels: bytes) -> None:
    """Be the same camera, with pictures of one's own."""
    library = ctypes.CDLL("libaravis-0.8.so.0")
    for name in (
        "arv_gv_fake_camera_new",
        "arv_gv_fake_camera_get_fake_camera",
        "arv_buffer_get_data",
    ):
        getattr(library, name).restype = ctypes.c_void_p
    library.arv_gv_fake_camera_new.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    camera = ctypes.c_void_p(library.arv_gv_fake_camera_new(ADDRESS.encode(), SERIAL.encode()))

    def fill(buffer: int, *_: int) -> None:
        into = library.arv_buffer_get_data(ctypes.c_void_p(buffer), None)
        ctypes.memmove(into, pixels, len(pixels))

    kept = _FILL(fill)
    inner = ctypes.c_void_p(library.arv_gv_fake_camera_get_fake_camera(camera))
    library.arv_fake_camera_set_fill_pattern(inner, kept, None)
    library.arv_fake_camera_write_memory(
        inner, _USER_NAME_AT, 16, USER_NAME.encode().ljust(16, b"\0")
    )
    threading.Event().wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]).read_bytes())
