"""Settings of the input that other programs send parts to."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ZeroMqSource(BaseModel):
    """Parts that other programs send: docs/zeromq.md has the format."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["zeromq"] = "zeromq"
    bind: Annotated[
        str, Field(pattern=r"^(tcp://[A-Za-z0-9.*-]+:[1-9][0-9]{0,4}|ipc:///.+)$", max_length=107)
    ] = "tcp://127.0.0.1:5560"
    """Where to listen; whoever reaches an address that is not of this machine can send parts."""

    @field_validator("bind")
    @classmethod
    def _port_exists(cls, value: str) -> str:
        if value.startswith("tcp:") and int(value.rpartition(":")[2]) > 65535:
            raise ValueError("ports go up to 65535")
        return value


def check_binds(sources: Iterable[object]) -> None:
    """Raise ValueError where two inputs bind one address: over `ipc` the second would steal it."""
    binds = [source.bind for source in sources if isinstance(source, ZeroMqSource)]
    if len(set(binds)) < len(binds):
        raise ValueError("two cameras bind the same address; give each source.bind its own")
