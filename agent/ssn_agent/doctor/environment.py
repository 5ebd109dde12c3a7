"""The service's environment file (systemd's EnvironmentFile), as far as it sets ours."""

import os
import shlex
from pathlib import Path

NAME = "ssn-agent.env"


def take_service_environment(config: Path) -> None:
    """Set what the service would find set; what is set here already stays.

    A file that is not there, or not ours to read, sets nothing.
    """
    try:
        text = (config.parent / NAME).read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.startswith("SSN_"):
            os.environ.setdefault(name, _unquoted(value))


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value)) if value[:1] in {"'", '"'} else value.strip()
    except ValueError:  # a quote that is not closed: systemd refuses the line
        return ""
