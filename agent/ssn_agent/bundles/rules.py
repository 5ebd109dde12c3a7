"""What a pull goes by, apart from network and disk."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssn_agent.errors import ChannelError
from ssn_contract.channel import MANIFEST_SCHEMA_VERSION, ChannelBundle


@dataclass
class Pace:
    """How fast a transfer must go on; all times are of the monotonic clock, in seconds.

    Each span of `span_s` must bring `min_bytes_per_s` on average, the first one from the attempt to
    connect on; and nothing goes on after `ends_at`.
    """

    span_s: float
    min_bytes_per_s: float
    ends_at: float
    span_began_at: float
    _received_before: int = field(default=0, init=False)

    def problem(self, now: float, received: int) -> str | None:
        """Say why a transfer that has brought so many bytes has to end; None where it may go on."""
        if now >= self.ends_at:
            return "the time for a whole pull (channel.limit_s) is up"
        if now - self.span_began_at < self.span_s:
            return None
        came = received - self._received_before
        rate = came / (now - self.span_began_at)
        if rate < self.min_bytes_per_s:
            return (
                f"{came} bytes in {now - self.span_began_at:.1f} s are fewer than "
                f"{self.min_bytes_per_s / 1024:g} KiB/s (channel.min_rate_kib_s)"
            )
        self._received_before, self.span_began_at = received, now
        return None


def announced(
    what: str, custom: Mapping[str, Any] | None, length: int, max_bytes: int
) -> ChannelBundle:
    """Return what a channel says of a bundle, where it is worth fetching.

    Raises ChannelError, naming it as `what`.
    """
    try:
        said = ChannelBundle.model_validate(custom)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"{what} is announced in a way that this agent does not understand"
        msg += f" ({where}: {first['msg']}); update the agent"
        raise ChannelError(msg) from error
    if said.manifest_schema_version != MANIFEST_SCHEMA_VERSION:
        msg = (
            f"{what} is made for contract version {said.manifest_schema_version}, this agent "
            f"reads version {MANIFEST_SCHEMA_VERSION}; update the agent, or publish one for it"
        )
        raise ChannelError(msg)
    if length > max_bytes:
        msg = f"{what} has {length} bytes; channel.max_bundle_mib allows {max_bytes}"
        raise ChannelError(msg)
    return said


def superfluous(
    stored: Iterable[tuple[Path, float]], needed: Collection[Path], keep: int
) -> list[Path]:
    """Return the bundles to delete, of those stored with the time at which they came.

    Those that are needed stay, and the newest few of the others.
    """
    others = sorted(
        ((came, path) for path, came in stored if path not in needed),
        reverse=True,
    )
    return [path for _, path in others[keep:]]
