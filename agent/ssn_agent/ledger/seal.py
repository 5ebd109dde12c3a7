"""Proof that a ledger's file is the one that was closed last, and not an older copy of it.

An older copy says, too, that it was closed well, and after which number: but numbers have been
given out since. So the end of the agent notes when the file was last changed (its `st_ctime`, which
no copy keeps and nobody can set), and the next start compares. A seal is good for one start.
"""

from pathlib import Path

from ssn_agent.atomic import write_atomically


def seal(ledger: Path) -> None:
    """Note the file as it is, with nothing open that may still write to it. Raises OSError."""
    write_atomically(_seal(ledger), str(ledger.stat().st_ctime_ns).encode())


def break_seal(ledger: Path) -> bool:
    """Say whether the file is as it was sealed, before it is opened; it no longer is sealed.

    Raises OSError where the seal cannot be removed: it would vouch for numbers given out since.
    """
    try:
        noted = _seal(ledger).read_bytes()
        changed_ns = ledger.stat().st_ctime_ns
    except FileNotFoundError:
        return False
    _seal(ledger).unlink()
    return noted == str(changed_ns).encode()


def _seal(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.closed")
