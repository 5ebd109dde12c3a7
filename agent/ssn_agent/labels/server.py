"""The HTTP API on its socket: uvicorn, with every connection bounded in time, number and size.

It speaks no TLS: beyond this machine a proxy does, which has the certificates and their renewal.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from uvicorn.protocols.http.h11_impl import H11Protocol

from ssn_agent.errors import AgentError, SettingsError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.labels.api import Routes, make_api
from ssn_agent.labels.guard import Guard, is_known_in
from ssn_agent.labels.handover import hand_over
from ssn_agent.labels.pictures import PictureRoutes
from ssn_agent.labels.token import Token
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.label_writer import Said
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, reload_asked_by
from ssn_agent.settings import Settings, read_resolved
from ssn_contract.http import LabelAnswer
from ssn_contract.messages import Label

TICK_S = 0.1
CONNECTION_S = 10.0
"""From its first byte to its last: who is slow, or says nothing, holds nobody up for longer."""
QUESTION_S = 2.0
"""A question that reads the ledger for longer is given up."""
MAX_READERS = 4
"""Threads that read the ledger: few, so that they take little from those who judge parts."""
MAX_CONNECTIONS = 32
MAX_UNKNOWN = 16
"""Connections of those who have not named the token: the oldest makes room for the next one, so
that who has it finds some."""
MAX_HEADER_BYTES = 16_384
BACKLOG = 64
STOP_S = 3.0


class HttpServer:
    """Serves until asked to stop."""

    def __init__(self, settings: Settings, files: RuntimeFiles, heart: Heartbeat) -> None:
        """Read the token and bind. Raises AgentError."""
        http = settings.http
        if http.port is None or http.token_file is None:
            raise SettingsError("http.port is not set: there is nothing to serve")
        self._files = files
        self._heart = heart
        self._token = Token(http.token_file)
        engine = open_database(settings.ledger_path, read_only=True, limit_s=QUESTION_S)
        pictures = PictureRoutes(
            engine, str(settings.station), settings.heatmap_dir, settings.image_dir
        )
        routes = Routes(engine, pictures, partial(_keep, files.labels))
        self._socket = _bound(str(http.host), http.port)
        self._server = _Server(
            uvicorn.Config(
                Guard(make_api(routes), self._token, http.requests_per_s),
                http=_Connection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                backlog=BACKLOG,
                timeout_graceful_shutdown=int(STOP_S),
            )
        )
        logger().info("the HTTP API is served", address=f"{http.host}:{http.port}")

    def run(self, stop: Stop) -> None:
        """Serve."""
        asyncio.run(self._run(stop))

    async def _run(self, stop: Stop) -> None:
        current_default_thread_limiter().total_tokens = MAX_READERS
        tending = asyncio.create_task(self._tend(stop))
        await self._server.serve([self._socket])
        await tending

    async def _tend(self, stop: Stop) -> None:
        """Beat, and heed signals, from within the loop that serves: so it is that which lives."""
        while not stop:
            self._heart.beat()
            self._heed_reload()
            await asyncio.sleep(TICK_S)
        self._heart.beat()
        self._server.should_exit = True

    def _heed_reload(self) -> None:
        if reload_asked_by() is None:
            return
        try:
            configure(read_resolved(self._files.settings).log_level, "http")
            self._token.read_again()
        except SettingsError as error:
            logger().error("the token stays as it was", problem=str(error))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Stop`: Ctrl-C is the supervisor's."""
        yield


class _Connection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Give it its time, and take it from another where too many have not named the token."""
        super().connection_made(transport)
        self._made_at = self.loop.time()
        self._end = self.loop.call_later(CONNECTION_S, transport.abort)
        unknown = [c for c in self.connections if isinstance(c, _Connection) and c._is_unknown]
        if len(unknown) > MAX_UNKNOWN:
            min(unknown, key=lambda c: c._made_at).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it: a timer that ran on would keep what was read of it."""
        self._end.cancel()
        super().connection_lost(exc)

    @property
    def _is_unknown(self) -> bool:
        is_known = bool(self.scope) and is_known_in(self.scope)
        return not is_known and not self.transport.is_closing()


def _keep(socket_file: Path, label: Label) -> LabelAnswer:
    return hand_over(socket_file, Said(label, "http"))


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        msg = f"{host}:{port}: cannot be used ({error.strerror}); change http.port or http.host"
        raise AgentError(msg) from error
