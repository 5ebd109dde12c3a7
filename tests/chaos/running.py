"""Runs scenarios one by one, whatever becomes of each, and says what they were run on."""

import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from chaos.report import Bar, Row

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROOT = Path(__file__).resolve().parents[2]
Size = TypeVar("Size", bound="DataclassInstance")


def measured(
    name: str,
    run: Callable[[Path], list[Row]],
    made: Sequence[str],
    counts: str,
    scratch: Path | None,
) -> list[Row]:
    """Run a scenario in a folder of its own; return its rows, which are to be named as `made`.

    One that cannot be brought to its end misses its bars, and says why.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"ssn-{name}-", dir=scratch))
    begun = time.monotonic()
    try:
        rows = run(folder)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 -- whatever a scenario meets must not cost the rows of the others
        traceback.print_exc()
        bar = Bar(text="comes to its end", measured=f"{error}", held=False)
        rows = [Row(name=row, fault=row, counts=counts, bars=[bar]) for row in made]
    seconds, commit = time.monotonic() - begun, _commit()
    rows = [row.model_copy(update={"seconds": seconds, "commit": commit}) for row in rows]
    if all(row.held for row in rows):
        shutil.rmtree(folder)
    else:
        print(f"{name}: logs and lists are kept in {folder}", flush=True)
    return rows


def sized(sizes: Mapping[str, Size], name: str, changes: Sequence[str]) -> Size:
    """Return the size of a run; one with changes, `COUNT=N` each, is called a try."""
    size = sizes[name]
    if not changes:
        return size
    given = dict(item.split("=", 1) for item in changes)
    kinds = {field.name: type(getattr(size, field.name)) for field in fields(size)}
    return replace(size, name="try", **{key: kinds[key](n) for key, n in given.items()})


def machine() -> str:
    """Return what the figures were measured on."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{len(cpus)} x {cpus[0] if cpus else 'unknown processor'}, Python {version}"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
