"""Which camera the first settings name: one that is found, or one that a person describes."""

from collections.abc import Sequence
from typing import Any, get_args

import typer

from ssn_agent.capture.camera import Found
from ssn_agent.capture.settings import SOURCES
from ssn_agent.commissioning.asking import Asker
from ssn_agent.commissioning.words import printable
from ssn_agent.errors import SettingsError, UsageError
from ssn_agent.settings import described_camera

KINDS = {get_args(model.model_fields["kind"].annotation)[0]: model for model in SOURCES}


def chosen_source(asker: Asker, given: Sequence[str] | None) -> dict[str, Any]:
    """Return the keys of a camera's source. Raises UsageError, SettingsError."""
    if given:
        if any(item.startswith("password=") for item in given):
            raise UsageError("--source password: others can read a command line; leave it out")
        return _keys(_with_password(asker, list(given)))
    found = _search()
    if not asker.asks:
        return _keys(_the_only_one(asker, found))
    for number, camera in enumerate(found, 1):
        typer.echo(f"  {number:2}  {printable(camera.name)} ({camera.kind})")
    typer.echo(f"  {len(found) + 1:2}  another one")
    question = "Which camera"
    answer = asker.text("--source", question, None, "1", lambda a: _is_of(a, len(found) + 1))
    if int(answer) <= len(found):
        return _keys(_items(found[int(answer) - 1]))
    while True:
        try:
            return _keys(_described(asker))
        except SettingsError as error:
            typer.echo(f"  {error}")


def _search() -> list[Found]:
    from ssn_agent.commissioning.finding import SEARCH_S, search

    typer.echo(f"looking for cameras, for {SEARCH_S:.0f} s at most ...")
    searched = search()
    for one in searched:
        if one.problem:
            typer.echo(f"  not searched: {one.kind}: {printable(one.problem)}")
    return [camera for one in searched for camera in one.cameras]


def _the_only_one(asker: Asker, found: list[Found]) -> list[str]:
    if len(found) == 1 and asker.takes_defaults:
        return _items(found[0])
    names = "; ".join(printable(" ".join(_items(camera))) for camera in found) or "none"
    msg = f"--source: is missing; say which camera, as --source kind=KIND (found: {names})"
    raise UsageError(msg)


def _items(camera: Found) -> list[str]:
    return [f"kind={camera.kind}", *(f"{key}={value}" for key, value in camera.source.items())]


def _described(asker: Asker) -> list[str]:
    """Ask for a kind, and for what it cannot do without."""
    kind = asker.text("--source", f"Its kind ({', '.join(KINDS)})", None, None, _is_kind)
    items = [f"kind={kind}"]
    for key, field in KINDS[kind].model_fields.items():
        if field.is_required():
            items.append(f"{key}={asker.text('--source', key, None, None)}")
    if "username" in KINDS[kind].model_fields:
        username = asker.text("--source", "username (empty: none)", None, "")
        items += [f"username={username}"] if username else []
    return _with_password(asker, items)


def _with_password(asker: Asker, items: list[str]) -> list[str]:
    if any(item.startswith("username=") for item in items):
        password = asker.secret("The camera's password (not shown; empty: none)")
        items += [f"password={password}"] if password else []
    return items


def _keys(items: list[str]) -> dict[str, Any]:
    source = described_camera(items).source
    return source.model_dump(mode="json", exclude_unset=True)


def _is_of(answer: str, count: int) -> None:
    if not answer.isdecimal() or not 1 <= int(answer) <= count:
        raise SettingsError(f"a number from 1 to {count}")


def _is_kind(answer: str) -> None:
    if answer not in KINDS:
        raise SettingsError(f"{answer!r} is none: {', '.join(KINDS)}")
