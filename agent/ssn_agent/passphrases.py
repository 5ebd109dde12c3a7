"""Passphrases of keys that lie on a disk: from a file that its owner alone reads, or a prompt.

Never from the command line, where every user of the machine sees them.
"""

import stat
import sys
from pathlib import Path

import typer

from ssn_agent.errors import PassphraseError

MIN_BYTES = 12
"""A PEM file makes each guess at its passphrase hardly dearer: it must be long by itself."""
MAX_BYTES = 1024  # OpenSSL's bound


def read_passphrase(path: Path) -> bytes:
    """Return what a file says, without its line's end. Raises PassphraseError."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            msg = f"{path}: others may read this passphrase; chmod 600 it"
            raise PassphraseError(msg)
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 2)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise PassphraseError(msg) from error
    return _checked(text.rstrip(b"\r\n"), str(path))


def ask_passphrase(key: str, instead: str, *, new: bool = False) -> bytes:
    """Ask for a key's passphrase on the terminal; of a `new` key twice. Raises PassphraseError.

    `instead` says what else would name it, for where there is no terminal.
    """
    if not sys.stdin.isatty():
        msg = f"no passphrase of {key}: there is no terminal to ask on, and {instead}"
        raise PassphraseError(msg)
    text: str = typer.prompt(
        f"Passphrase of {key}", hide_input=True, confirmation_prompt=new, err=True
    )
    return _checked(text.encode(), "the passphrase")


def _checked(passphrase: bytes, where: str) -> bytes:
    if not MIN_BYTES <= len(passphrase) <= MAX_BYTES:
        msg = f"{where}: takes {MIN_BYTES} to {MAX_BYTES} bytes, as six words"
        raise PassphraseError(msg)
    return passphrase
