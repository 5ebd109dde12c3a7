"""Which cameras this machine reaches, over all drivers whose software is installed."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ssn_agent.capture.camera import Found
from ssn_agent.errors import CameraError


def _basler() -> list[Found]:
    from ssn_agent.capture.drivers.basler import find

    return find()


def _gentl() -> list[Found]:
    from ssn_agent.capture.drivers.gentl import find

    return find()


def _gige() -> list[Found]:
    from ssn_agent.capture.drivers.gige import find

    return find()


def _v4l2() -> list[Found]:
    from ssn_agent.capture.drivers.v4l2 import find

    return find()


FINDS: dict[str, Callable[[], list[Found]]] = {
    "basler": _basler,
    "gentl": _gentl,
    "gige": _gige,
    "v4l2": _v4l2,
}
"""The kinds of source that can be searched for; a driver is imported only to search."""
SEARCH_S = 10.0


@dataclass(frozen=True)
class Searched:
    """What a search for one kind came to."""

    kind: str
    cameras: tuple[Found, ...] = ()
    problem: str = ""
    """Why there was no search; empty where there was one."""


def search(within_s: float = SEARCH_S) -> list[Searched]:
    """Search for all kinds at once; one that does not answer in time is given up."""
    answers: queue.SimpleQueue[Searched] = queue.SimpleQueue()
    for item in FINDS.items():
        threading.Thread(target=_search, args=(*item, answers.put), daemon=True).start()
    ends_at = time.monotonic() + within_s
    found: dict[str, Searched] = {}
    with suppress(queue.Empty):
        while len(found) < len(FINDS):
            answer = answers.get(timeout=max(0.0, ends_at - time.monotonic()))
            found[answer.kind] = answer
    late = f"did not answer within {within_s:g} s"
    return [found.get(kind, Searched(kind, problem=late)) for kind in FINDS]


def _search(kind: str, find: Callable[[], list[Found]], answer: Callable[[Searched], None]) -> None:
    try:
        answer(Searched(kind, tuple(find())))
    except (CameraError, ImportError) as error:
        answer(Searched(kind, problem=str(error)))
    except Exception as error:  # noqa: BLE001 -- a vendor's software must not cost the other kinds
        answer(Searched(kind, problem=f"{type(error).__name__}: {error}"))
