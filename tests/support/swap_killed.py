"""`python -m support.swap_killed STEP SETTINGS PARENT`: inference that dies at a step of a swap.

SIGKILL, where it is about to take the step with a bundle of the version 2.0.0, or has just taken
it. Everything before is as it is.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ssn_agent.inference import judges, loading, process
from ssn_agent.inference.lane import Lane

VERSION = "2.0.0"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(where: Any, name: str, concerns: Callable[..., bool]) -> None:
    real = getattr(where, name)

    def replaced(*arguments: Any, **named: Any) -> Any:
        if concerns(*arguments):
            _die()
        return real(*arguments, **named)

    setattr(where, name, replaced)


def _after(where: Any, name: str, concerns: Callable[..., bool]) -> None:
    real = getattr(where, name)

    def replaced(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        if concerns(found, *arguments):
            _die()
        return found

    setattr(where, name, replaced)


def _seated(lane: Lane) -> bool:
    model = lane.seats[0].model
    return model is not None and model.scorer.bundle.manifest.version == VERSION


STEPS: dict[str, Callable[[], None]] = {
    "wanted, and read": lambda: _after(judges, "read_state", lambda found, _: bool(found.followed)),
    "its load begun": lambda: _after(judges, "Loading", lambda *_: True),
    "its file opened": lambda: _after(
        loading, "open_bundle", lambda found, _: found.manifest.version == VERSION
    ),
    "its engine about to start": lambda: _before(
        loading, "Model", lambda bundle, *_: bundle.manifest.version == VERSION
    ),
    "its engine ready": lambda: _after(loading, "Model", lambda *_: True),
    "loaded, not swapped": lambda: _before(judges.Judges, "_take_over", lambda *_: True),
    "swapped, not noted": lambda: _before(judges, "write_swapped", _is_second),
    "the note written beside its place": lambda: _in_the_note(),
    "noted, the camera's journal not": lambda: _before(Lane, "note_model", _seated),
    "noted, no frame judged": lambda: _after(Lane, "note_model", lambda _, lane: _seated(lane)),
}
"""What is done to a process so that it dies there, by the step's name, in their order."""

_calls: list[object] = []


def _is_second(*_: object) -> bool:
    """Tell a second note: the first is of the start."""
    _calls.append(None)
    return len(_calls) == 2


def _in_the_note() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).endswith(".swapped") and _is_second():
            _die()

    sys.addaudithook(hook)


if __name__ == "__main__":
    STEPS[sys.argv[1]]()
    process.main(*sys.argv[2:])
