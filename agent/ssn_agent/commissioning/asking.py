"""Questions to a person in front of the box, who may also have answered them by options."""

import sys
from collections.abc import Callable

import typer

from ssn_agent.errors import SettingsError, UsageError

MAX_ANSWER = 4096


class Asker:
    """Asks what no option says; takes defaults where it is told to."""

    def __init__(self, *, takes_defaults: bool) -> None:
        """With `takes_defaults` nothing is asked that has one."""
        self.takes_defaults = takes_defaults
        self.is_terminal = sys.stdin.isatty()
        """Where there is none, nobody can be asked."""

    @property
    def asks(self) -> bool:
        """Say whether a person is asked what has a default."""
        return self.is_terminal and not self.takes_defaults

    def text(
        self,
        option: str,
        question: str,
        given: str | None,
        default: str | None,
        check: Callable[[str], object] = lambda _: None,
    ) -> str:
        """Return an answer that `check` takes, which raises SettingsError where it does not.

        Where that was given by an option, nothing is asked; a default of "" is "none". Raises
        UsageError, naming the option, where nobody can be asked.
        """
        if given is not None:
            try:
                check(given)
            except SettingsError as error:
                raise UsageError(f"{option}: {error}") from error
            return given
        if default is not None and self.takes_defaults:
            return default
        self.must_have_terminal(option)
        while True:
            answer = str(typer.prompt(question, default=default, show_default=bool(default)))
            answer = answer.strip()[:MAX_ANSWER]
            if not answer and default == "":
                return ""
            try:
                check(answer)
            except SettingsError as error:
                typer.echo(f"  {error}")
            else:
                return answer

    def yes(self, question: str, given: bool | None, *, default: bool) -> bool:
        """Return whether it is to be; without a person to ask, the default."""
        if given is not None:
            return given
        return typer.confirm(question, default=default) if self.asks else default

    def secret(self, question: str) -> str:
        """Return what is typed without being shown; nothing, where nobody is asked."""
        if not self.asks:
            return ""
        return str(typer.prompt(question, default="", hide_input=True, show_default=False))

    def must_have_terminal(self, option: str) -> None:
        """Raise UsageError, naming the option, where nobody can be asked."""
        if not self.is_terminal:
            msg = f"{option}: is missing, and there is no terminal to ask at; give it"
            raise UsageError(f"{msg}, or --yes for what has a default")
