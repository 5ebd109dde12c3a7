"""The settings of the channel that this station pulls its bundles from."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, FilePath

from ssn_agent.section import Section
from ssn_contract.channel import ChannelName
from ssn_contract.manifest import Name


def _web_address(value: str) -> str:
    parts = urlsplit(value)  # of a malformed one it raises ValueError, as this does
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        msg = "not a web address; write it as https://HOST[:PORT]/[PATH/]"
        raise ValueError(msg)
    if parts.username is not None or parts.query or parts.fragment:
        msg = "holds a user, a query or a fragment; name the folder alone: a channel is public"
        raise ValueError(msg)
    if not value.isascii() or not value.isprintable() or " " in value:
        msg = "holds characters that no web address has; write them as %XX"
        raise ValueError(msg)
    return value.rstrip("/")


class ChannelSettings(Section):
    """Where bundles come from, whom to believe, and what a server may cost at most."""

    url: Annotated[str, AfterValidator(_web_address)]
    """The channel's folder, over http or https: either way its signatures say what is true."""
    root_file: FilePath
    """A root.json of the channel, brought here by hand: all trust begins with it."""
    name: ChannelName = "stable"
    bundles: Annotated[list[Name], Field(max_length=32, default_factory=list)]
    """Names of bundles to pull, without versions, beside those that cameras follow."""
    poll_s: Annotated[float, Field(ge=10, le=604_800)] = 3600.0
    """How often the channel is looked at for what is followed."""
    keep: Annotated[int, Field(ge=0, le=100)] = 3
    """Bundles that stay in the store beside those that the channel names or a camera has."""
    max_bundle_mib: Annotated[int, Field(ge=1, le=512)] = 512
    max_metadata_kib: Annotated[int, Field(ge=64, le=16_384)] = 1024
    timeout_s: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """To connect; and in each such span a server must send what `min_rate_kib_s` asks for."""
    min_rate_kib_s: Annotated[float, Field(gt=0, le=1024)] = 16.0
    limit_s: Annotated[float, Field(ge=0.1, le=86_400)] = 1800.0
    """For a whole pull, all files together."""
