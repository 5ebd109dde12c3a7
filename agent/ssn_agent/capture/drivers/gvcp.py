"""Which GigE Vision cameras are in reach: the discovery of GigE Vision's control protocol (GVCP).

Aravis has one too, which shows no user-defined names, and asks the name server for a name that it
does not know, for as long as that takes.
"""

import fcntl
import ipaddress
import selectors
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ssn_agent.errors import CameraError

PORT = 3956
WAIT_S = 1.0
"""A device may take that long to answer."""
_BROADCAST = "255.255.255.255"
_DISCOVER = struct.pack(">BBHHH", 0x42, 0x11, 0x0002, 0, 1)
"""Key, flags (answer, by broadcast where need be), command, length of what follows, request."""
_ACKNOWLEDGED = struct.pack(">HHHH", 0, 0x0003, 0x00F8, 1)
_GET_ADDRESS = 0x8915
"""SIOCGIFADDR of Linux: the IPv4 address of an interface."""


@dataclass(frozen=True)
class Device:
    """A camera as it names itself."""

    address: str
    """IPv4."""
    vendor: str
    model: str
    version: str
    serial: str
    user_name: str
    """User-defined name: what somebody called it; may be empty."""

    @classmethod
    def from_answer(cls, answer: bytes) -> "Device | None":
        """Read the answer to a discovery, by the bootstrap registers that it repeats; None: no."""
        if not answer.startswith(_ACKNOWLEDGED) or len(answer) < len(_ACKNOWLEDGED) + 0xF8:
            return None
        registers = answer[len(_ACKNOWLEDGED) :]

        def text(at: int, length: int) -> str:
            said = registers[at : at + length].partition(b"\0")[0].decode(errors="replace").strip()
            # Whoever is on the network may answer: no line ends or escapes for logs and terminals.
            return "".join(char if char.isprintable() else "?" for char in said)

        return cls(
            address=str(ipaddress.IPv4Address(registers[0x24:0x28])),
            vendor=text(0x48, 32),
            model=text(0x68, 32),
            version=text(0x88, 32),
            serial=text(0xD8, 16),
            user_name=text(0xE8, 16),
        )


def discover(wait_s: float = WAIT_S) -> list[Device]:
    """Return what answers on this machine's networks within `wait_s`, in the order of addresses.

    Raises CameraError where no socket is to be had.
    """
    found = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for address in _own_addresses():
            with suppress(OSError):  # an interface that is down, or went away just now
                asking = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                asking.setblocking(False)
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                asking.bind((address, 0))
                asking.sendto(_DISCOVER, (_BROADCAST, PORT))
                selector.register(asking, selectors.EVENT_READ, asking.recv)
        ends_at = time.monotonic() + wait_s
        while selector.get_map() and (left_s := ends_at - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                with suppress(OSError):  # "port unreachable" of another machine
                    device = Device.from_answer(key.data(1024))
                    if device is not None:
                        found[device.address] = device
    return sorted(found.values(), key=lambda device: ipaddress.IPv4Address(device.address))


def _own_addresses() -> list[str]:
    """Return the IPv4 address of each interface that has one."""
    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # it has none
                    request = struct.pack("256s", name.encode()[:15])
                    answer = fcntl.ioctl(asking.fileno(), _GET_ADDRESS, request)
                    found.append(socket.inet_ntoa(answer[20:24]))
    except OSError as error:
        msg = f"no search for GigE Vision cameras: {error}"
        raise CameraError(msg) from error
    return found
