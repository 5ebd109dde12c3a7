"""What a channel says of a bundle (`custom` of its TUF target), and that it names something new."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ssn_contract.manifest import Manifest, Time, Version
from ssn_contract.messages import _Inward

ChannelName = Literal["stable", "canary"]
MANIFEST_SCHEMA_VERSION: int = Manifest.model_fields["schema_version"].default
"""The contract version of bundles that this version writes and reads."""


class ChannelBundle(BaseModel):
    """The bundle that a channel names at present: its target's path is `CHANNEL/NAME.ssn`.

    Reading is tolerant, as of a manifest.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )

    schema_version: Literal[1] = 1
    version: Version
    """That of the bundle's manifest."""
    manifest_schema_version: Annotated[int, Field(ge=1)] = MANIFEST_SCHEMA_VERSION
    """The contract version of the bundle: a station that reads another one need not fetch it."""


MAX_ANNOUNCEMENT_BYTES = 4096


class Announcement(_Inward):
    """Retained on `ssn/v1/{site}/channel/{channel}`: a channel names something new.

    A hint to look there now, and no more: what is true the channel's signatures say.
    """

    schema_version: Literal[1]
    channel: ChannelName
    at: Time


def target_path(channel: ChannelName, bundle: str) -> str:
    """Return the TUF target that is a channel's bundle of this name."""
    return f"{channel}/{bundle}.ssn"
