"""The settings of the metrics endpoint."""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import Field

from ssn_agent.section import Section


class MetricsSettings(Section):
    """Where Prometheus finds the station's figures: `http://HOST:PORT/metrics`."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: nothing listens. The topic `metrics` and `ssn-agent status` need no port."""
    host: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    """The address to listen on. There is no password: a network that reaches it can read it."""
