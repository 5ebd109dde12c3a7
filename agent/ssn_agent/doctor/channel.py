"""Is the channel of bundles there, signed by whom we trust, and not out of date?"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ssn_agent.bundles.channel import pull
from ssn_agent.doctor.findings import Finding, Subject, fault, ok
from ssn_agent.errors import ChannelError

LIMIT_S = 20.0


def channel(subject: Subject) -> Iterator[Finding]:
    """Ask it as a pull does, and fetch nothing; what the station believes stays as it is."""
    settings = subject.settings.channel
    if settings is None:
        yield ok("none: bundles come by hand")
        return
    quick = settings.model_copy(update={"limit_s": min(LIMIT_S, settings.limit_s)})
    with tempfile.TemporaryDirectory(prefix="ssn-doctor-") as name:
        folder = Path(name)
        try:
            named = pull(quick, folder / "bundles", folder / "channel", fetch=False)
        except ChannelError as error:
            yield fault(str(error), "docs/channels.md")
            return
    bundles = ", ".join(f"{one.name} {one.version}" for one in named)
    yield ok(f"{settings.name} at {settings.url}: {bundles}")
