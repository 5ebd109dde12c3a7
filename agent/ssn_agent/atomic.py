"""Files that are whole or absent."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, data: bytes, mode: int = 0o644, *, synced: bool = True) -> None:
    """Write a file that is at `path`, on the disk, when this returns. Raises OSError.

    Where it need not be `synced`, the disk may lose it to a power cut, and is spared.
    """
    replacing = _replacing(path, mode, synced=synced)
    with replacing as (handle, _), os.fdopen(handle, "wb", closefd=False) as file:
        file.write(data)


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Write UTF-8 text as such a file; it appears when the block ends without an error.

    Line ends are written as given, as CSV wants it. Raises OSError.
    """
    with (
        _replacing(path) as (handle, _),
        os.fdopen(handle, "w", encoding="utf-8", newline="", closefd=False) as file,
    ):
        yield file


@contextmanager
def atomic_path(path: Path, mode: int) -> Iterator[Path]:
    """Yield the path of such a file, empty, for another library to write; see `atomic_text`."""
    with _replacing(path, mode) as (_, temporary):
        yield temporary


@contextmanager
def _replacing(path: Path, mode: int = 0o644, *, synced: bool = True) -> Iterator[tuple[int, Path]]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            yield handle, Path(temporary)
            if synced:
                os.fsync(handle)
        finally:
            os.close(handle)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
