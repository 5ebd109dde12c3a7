"""The settings of the HTTP API."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ssn_agent.section import Section


class HttpSettings(Section):
    """Where other programs read the ledger and label: `http://HOST:PORT/v1/...`."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: nothing listens, and no process of it runs."""
    host: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    """The address to listen on. The API speaks no TLS: in a network it wants a proxy before it."""
    token_file: Path | None = None
    """Holds the token that every request has to name; 0600, and the agent's own."""
    requests_per_s: Annotated[float, Field(ge=1, le=10_000)] = 50.0
    """Over a while; a burst may have twice as many at once."""

    @model_validator(mode="after")
    def _wants_a_token(self) -> "HttpSettings":
        if self.port is not None and self.token_file is None:
            msg = "port is set but token_file is not: nothing is served without a token"
            raise ValueError(msg)
        return self
