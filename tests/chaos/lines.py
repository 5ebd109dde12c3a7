"""Lists on the disk that one program writes and another one reads while they grow."""

import json
import os
from pathlib import Path
from typing import Any


class LinesWriter:
    """Appends JSON objects, a line each; what was appended outlives the program."""

    def __init__(self, path: Path) -> None:
        """Go on after what is there."""
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, **item: Any) -> None:
        """Write one line at once."""
        os.write(self._handle, json.dumps(item).encode() + b"\n")


class LinesReader:
    """Reads what has been appended since it last looked."""

    def __init__(self, path: Path) -> None:
        """Begin at the beginning; the file need not be there yet."""
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new lines, as far as they are whole."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
