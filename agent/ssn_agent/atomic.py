"""Files that are whole or absent."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is at `path`, on the disk, when this returns. Raises OSError."""
    with _replacing(path, mode) as handle, os.fdopen(handle, "wb", closefd=False) as file:
        file.write(data)


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Write UTF-8 text as such a file; it appears when the block ends without an error.

    Line ends are written as given, as CSV wants it. Raises OSError.
    """
    with (
        _replacing(path) as handle,
        os.fdopen(handle, "w", encoding="utf-8", newline="", closefd=False) as file,
    ):
        yield file


@contextmanager
def _replacing(path: Path, mode: int = 0o644) -> Iterator[int]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            yield handle
            os.fsync(handle)
        finally:
            os.close(handle)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
