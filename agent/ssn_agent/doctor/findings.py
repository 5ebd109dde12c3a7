"""What a check finds, and how all of them are run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ssn_agent.doctor.account import Account
from ssn_agent.errors import AgentError
from ssn_agent.settings import Settings
from ssn_contract.metrics import StationMetrics


class Level(str, Enum):
    """How bad it is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be looked at here, and that is no fault."""
    WARNING = "warning"
    """The station works, and somebody should look at it."""
    FAULT = "fault"
    """The station does not do its job, or will soon not."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    level: Level
    what: str
    do: str = ""
    """What a person can do about it; empty where nothing is to be done."""
    check: str = ""
    """By its name in docs/doctor.md."""


def ok(what: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.OK, what)


def unknown(what: str, do: str = "") -> Finding:
    """Return that it cannot be told."""
    return Finding(Level.UNKNOWN, what, do)


def warning(what: str, do: str) -> Finding:
    """Return something to look at."""
    return Finding(Level.WARNING, what, do)


def fault(what: str, do: str) -> Finding:
    """Return a fault."""
    return Finding(Level.FAULT, what, do)


@dataclass(frozen=True)
class Subject:
    """The station that is looked at."""

    config: Path
    settings: Settings
    """In force where an agent runs, else those of the file."""
    account: Account
    """Who the service runs as."""
    metrics: StationMetrics | None = None
    """How the agent does that runs here; None: none does, or we may not ask it."""
    may_run: bool = False
    """An agent runs here, as far as we can tell."""


Check = Callable[[Subject], Iterable[Finding]]


def looked_at(subject: Subject, checks: Mapping[str, Check]) -> list[Finding]:
    """Return what all checks find; one that fails costs none of the others."""
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            said = list(check(subject))
        except AgentError as error:
            what, _, do = str(error).partition("; ")
            said = [fault(what, do or "see the message")]
        except OSError as error:
            said = [unknown(f"cannot be looked at: {error}", "see what `folders` says")]
        except Exception as error:  # noqa: BLE001 -- a check's own failure must not hide the others
            problem = f"the check itself failed: {type(error).__name__}: {error}"
            said = [unknown(problem, "report it")]
        found += [replace(one, check=name) for one in said]
    return found
