"""What the line to the broker is secured with: files that may be replaced while it stands."""

import socket
import ssl
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from ssn_agent.errors import BrokerError
from ssn_agent.log import logger
from ssn_agent.publish.expiry import ends, expiring, peer_end
from ssn_agent.publish.settings import BrokerSettings
from ssn_contract.metrics import BrokerCertificates

LOOK_INTERVAL_S = 60.0
TRIAL_TIMEOUT_S = 5.0
REFUSAL_WAIT_S = 1.0


class Certificates:
    """The files that were found sound last; with what they say a connection is made.

    Files that have changed are tried on a connection of their own first: where they do not load or
    the broker does not take them, those of before stay in force. All but `ask` is of one thread.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        """Load the files; where they do not load, `problem` says why and `context` is None."""
        self._settings = settings
        self._contents: tuple[bytes, ...] | None = None
        self._look_at = 0.0
        self.context: ssl.SSLContext | None = None
        self.ends: BrokerCertificates | None = None
        """When those in force end, and the broker's; None where that is unknown."""
        self._broker_end: datetime | None = None
        self.problem: str | None = None
        """Why the files as they are now are not in force; None while they are."""
        self.look()

    def ask(self) -> None:
        """Have the next call of `renewed` look at once; from any thread."""
        self._look_at = 0.0

    def renewed(self) -> bool:
        """Look now and then; say whether other files are in force now: a new connection is due."""
        return time.monotonic() >= self._look_at and self.look()

    def look(self) -> bool:
        """Take over files that have changed; say whether others are in force now."""
        self._look_at = time.monotonic() + LOOK_INTERVAL_S
        if not self._settings.tls:
            return False
        try:
            contents = _contents(self._settings)
            if contents == self._contents:
                self.problem = None
                return False
            context = load(self._settings)
            if self.context is not None:
                self._try(context)
        except BrokerError as error:
            if str(error) != self.problem:
                logger().error("certificates not taken over", problem=str(error))
            self.problem = str(error)
            return False
        if self.context is not None:
            logger().info("certificates taken over")
        self._contents, self.context, self.problem = contents, context, None
        self.ends = self._when_they_end()
        return True

    def _when_they_end(self) -> BrokerCertificates | None:
        """Read it; what OpenSSL takes and we cannot read costs no connection."""
        try:
            found = ends(self._settings)
        except BrokerError as error:
            logger().warning("when certificates end is unknown", problem=str(error))
            return None
        return found.model_copy(update={"broker": self._broker_end})

    def met(self, connection: object) -> None:
        """Note when the certificate of the broker ends that has taken us."""
        if isinstance(connection, ssl.SSLSocket) and self.ends is not None:
            self._broker_end = peer_end(connection)
            self.ends = self.ends.model_copy(update={"broker": self._broker_end})

    def alarms(self) -> list[str]:
        """Say which of them end within 30 days; from any thread."""
        return expiring(self.ends, datetime.now(timezone.utc))

    def _try(self, context: ssl.SSLContext) -> None:
        """Shake hands with the broker. Raises BrokerError."""
        try:
            shake_hands(self._settings, context)
        except (OSError, ValueError) as error:
            msg = f"the certificates that were replaced are not taken over: {why(error)}"
            raise BrokerError(msg) from error


def shake_hands(settings: BrokerSettings, context: ssl.SSLContext) -> datetime | None:
    """Connect to the broker, and leave again; return when its certificate ends.

    Raises OSError or ValueError, for `why`.
    """
    host, port = settings.host, settings.port
    with (
        socket.create_connection((host, port), TRIAL_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        # With TLS 1.3 our certificate is refused when the handshake is over on our side.
        secured.settimeout(REFUSAL_WAIT_S)
        with suppress(TimeoutError):
            secured.recv(1)
        return peer_end(secured)


def load(settings: BrokerSettings) -> ssl.SSLContext:
    """Return what `broker.*_file` say. Raises BrokerError.

    Without `ca_file` the system's authorities are trusted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loading = "broker.ca_file does not load"
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
        if settings.cert_file is not None:
            loading = "broker.cert_file and key_file do not load"
            # Without a password OpenSSL would ask for one on the terminal, and wait.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (OSError, ValueError) as error:
        msg = f"{loading} ({error}); they are PEM files, the key is not encrypted"
        raise BrokerError(msg) from error
    return context


def why(error: OSError | ValueError) -> str:
    """Return what a failed connection is to be told as."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message
        return f"its certificate is not trusted ({reason}); check broker.ca_file and broker.host"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        if "alert" in reason and ("cert" in reason or "unknown ca" in reason):
            return f"it refuses our certificate ({reason}); check broker.cert_file"
        return f"no TLS with it ({reason}); check broker.tls and broker.port"
    return getattr(error, "strerror", None) or str(error)


def _contents(settings: BrokerSettings) -> tuple[bytes, ...]:
    files = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        return tuple(b"" if file is None else Path(file).read_bytes() for file in files)
    except OSError as error:
        msg = f"the broker's certificates cannot be read ({error}); check broker.*_file"
        raise BrokerError(msg) from error
