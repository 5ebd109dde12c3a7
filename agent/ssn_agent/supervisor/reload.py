"""Which settings may change while the agent runs, and what is then in force: no I/O here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pydantic import BaseModel

from ssn_agent.settings import Settings

AT_RUN_TIME = re.compile(
    r"log_level|retention\.\w+"
    r"|cameras\.[^.]+\.(threshold|alarm_after|(fitness|drift|keep)\.\w+)"
)
"""What every process can take over between two parts. All else wants a restart."""


@dataclass(frozen=True)
class Reload:
    """What a reload makes of the settings in force and those that are wanted."""

    settings: Settings
    """In force from now on."""
    changed: tuple[str, ...]
    """Keys that differ from before."""
    wants_restart: tuple[str, ...]
    """Keys that are wanted otherwise, and stay as they were."""


def reload(running: Settings, wanted: Settings) -> Reload:
    """Take over what may change at run time; leave and name the rest."""
    different = list(_different(running.model_dump(), wanted.model_dump()))
    changed = tuple(key for key in different if AT_RUN_TIME.fullmatch(key))
    settings = running
    for key in changed:
        path = key.split(".")
        settings = _replaced(settings, path, reduce(_child, path, wanted))
    return Reload(settings, changed, tuple(key for key in different if key not in changed))


def _different(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys whose values differ; of what only one side has, the highest key."""
    for name in sorted({*old, *new}):
        ours, theirs = old.get(name), new.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _different(ours, theirs, f"{above}{name}.")
        elif ours != theirs:
            yield f"{above}{name}"


def _child(node: Any, name: str) -> Any:
    return node[name] if isinstance(node, dict) else getattr(node, name)


def _replaced(node: Any, path: list[str], value: Any) -> Any:
    """Return a copy in which one key has another value."""
    name, *below = path
    if below:
        value = _replaced(_child(node, name), below, value)
    if isinstance(node, BaseModel):
        return node.model_copy(update={name: value})
    return {**node, name: value}
