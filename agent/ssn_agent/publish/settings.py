"""The settings of the broker."""

from typing import Annotated

from pydantic import Field, FilePath, model_validator

from ssn_agent.section import Secret, Section


class BrokerSettings(Section):
    """Where verdicts go."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str | None = None
    password: Secret | None = None
    tls: bool = False
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    inflight: Annotated[int, Field(ge=1, le=1000)] = 100
    """Messages under way at once, at most; a broker may allow fewer."""

    @model_validator(mode="after")
    def _certificates_go_with_tls(self) -> "BrokerSettings":
        if (self.ca_file or self.cert_file or self.key_file) and not self.tls:
            msg = "certificates are set but tls is not; set broker.tls = true"
            raise ValueError(msg)
        if (self.cert_file is None) != (self.key_file is None):
            msg = "cert_file and key_file go together"
            raise ValueError(msg)
        if self.password is not None and self.username is None:
            msg = "password is set but username is not; set both"
            raise ValueError(msg)
        return self
