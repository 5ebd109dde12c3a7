"""`http://HOST:PORT/metrics`, served by a thread of the supervisor.

It reads what the processes have noted in the runtime directory, so a scrape costs no other process
anything. One request at a time, each bounded in time: whoever connects takes one thread and one
file, at most.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from ssn_agent.log import logger
from ssn_agent.metrics.exposition import registry
from ssn_agent.metrics.settings import MetricsSettings
from ssn_contract.metrics import StationMetrics

CLIENT_S = 2.0
"""For each step of a client's."""
RETRY_S = 5.0


class Endpoint:
    """Serves until the process ends; where the port is taken, it says so and tries again."""

    def __init__(
        self,
        settings: MetricsSettings,
        port: int,
        read: Callable[[], StationMetrics],
        deadlines_s: Mapping[str, float],
    ) -> None:
        """Start the thread. From the main thread, which alone heeds signals."""
        self._address = (str(settings.host), port)
        self._app = make_wsgi_app(registry(read, deadlines_s))
        self.problem: str | None = None
        """Why nothing listens; None while all is well."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        where = "{}:{}".format(*self._address)
        while True:
            try:
                with _Server(self._address, _Handler) as server:
                    server.set_app(self._app)
                    self.problem = None
                    logger().info("metrics are served", address=where)
                    server.serve_forever()
            except OSError as error:
                if self.problem is None:
                    logger().error("metrics are not served", address=where, problem=error.strerror)
                self.problem = f"{where}: cannot be used ({error.strerror}); see metrics.port"
            time.sleep(RETRY_S)


class _Server(WSGIServer):
    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are, as the library does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client go that has gone itself, or took too long."""
        del request
        logger().debug("metrics: a request failed", client=client_address[0], exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_S

    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""
