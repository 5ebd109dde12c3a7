"""What `--help` prints of the command lines is all that is written for it."""

from collections.abc import Iterator

import pytest
import typer
from rich.markup import render

import ssn_agent.cli
import ssn_trainer.cli


def texts(command: object, name: str) -> Iterator[tuple[str, str]]:
    """Yield the name and each help text of a command, its parameters and its subcommands."""
    for thing in (command, *getattr(command, "params", [])):
        yield name, getattr(thing, "help", None) or ""
    for word, below in getattr(command, "commands", {}).items():
        yield from texts(below, f"{name} {word}")


@pytest.mark.parametrize(
    ("program", "app"), [("ssn-agent", ssn_agent.cli.app), ("ssn-trainer", ssn_trainer.cli.app)]
)
def test_nothing_in_brackets_is_taken_for_a_style_and_left_out(
    program: str, app: typer.Typer
) -> None:
    left_out = [
        (name, text)
        for name, text in texts(typer.main.get_command(app), program)
        if render(text).plain != text
    ]
    assert not left_out
