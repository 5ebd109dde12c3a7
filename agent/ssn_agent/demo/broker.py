"""A broker of the demo's own, on this machine alone."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssn_agent.errors import BrokerError, UsageError

try:
    import iotcore
except ModuleNotFoundError as error:
    msg = "the demo's broker is not installed; run: pip install 'ssn-inspect[agent,cpu,demo]'"
    raise UsageError(msg) from error

# rumqttd takes MQTT 5 on a listener of its own, which only its file can name.
_CONFIG = """\
id = 0

[router]
id = 0
max_connections = 50
max_outgoing_packet_count = 1000
max_segment_size = 10485760
max_segment_count = 10

[v5.1]
name = "demo"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


@contextmanager
def demo_broker(folder: Path) -> Iterator[int]:
    """Run a broker on a free port of 127.0.0.1 and yield the port. Raises BrokerError."""
    port = _free_port()
    config = folder / "broker.toml"
    config.write_text(_CONFIG.format(port=port))
    broker = iotcore.Broker(config_path=str(config))
    # Ctrl-C reaches the broker's process too; it must live until the agent has delivered.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        broker.start()
    except (OSError, RuntimeError) as error:
        msg = f"the demo's broker does not start on 127.0.0.1:{port} ({error}); run the demo again"
        raise BrokerError(msg) from error
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield port
    finally:
        broker.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
