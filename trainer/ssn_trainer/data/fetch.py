"""What people labelled on a station, fetched into a folder that has the layout `ledger`.

A picture of a verdict never changes: one that is there is not fetched again, so a fetch that was
cut off goes on. Labels do change, and are asked anew.
"""

import csv
import re
from collections import Counter
from pathlib import Path

from rich.console import Console

from ssn_agent.atomic import atomic_text, write_atomically
from ssn_contract.http import LedgerEntry, LedgerEntryInFull
from ssn_trainer.data.station import Station
from ssn_trainer.data.tables import LEDGER_FILE
from ssn_trainer.errors import StationError
from ssn_trainer.progress import progress

COLUMNS = (
    *("image", "part_id", "product", "camera", "epoch", "sequence", "triggered_at", "score"),
    *("verdict", "model", "label", "defect_type", "labeller", "labelled_at", "disagreement"),
)
"""As `ssn-agent ledger export --for-training` writes them."""
MAX_IMAGES = 100_000
MAX_TOTAL_BYTES = 64 * 2**30
_CONTRADICTING = {("PASS", "bad"), ("FAIL", "good")}


def folder_of(station: Station, out: Path) -> Path:
    """Return where a station's pictures lie below `out`: its name is that of host and port."""
    where = station.url.partition("://")[2]
    return out / "stations" / re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")


def fetch(station: Station, folder: Path, console: Console) -> None:
    """Have the labelled pictures in `folder`, with the table that says what they are.

    Verdicts on challenge parts are test data, and not among them. Raises StationError, OSError.
    """
    if station.is_overheard:
        console.print(
            f"{station.url}: token and pictures cross the network unencrypted; use https",
            style="yellow",
            markup=False,
        )
    counts: Counter[str] = Counter()
    total_bytes = 0
    rows: dict[str, dict[str, object]] = {}
    with progress(console, "fetching", None) as advance:
        for entry in station.labelled():
            if counts.total() >= MAX_IMAGES:
                raise _too_much(station, f"{MAX_IMAGES} labelled verdicts")
            found, size = _take(station, entry, folder)
            counts[found] += 1
            total_bytes += size
            if total_bytes > MAX_TOTAL_BYTES:
                raise _too_much(station, f"{MAX_TOTAL_BYTES} bytes")
            full = station.in_full(entry) if size else None
            if full is not None and full.labels:
                rows[_name(entry)] = _row(full)
            advance(1)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_text(folder / LEDGER_FILE) as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows[name] for name in sorted(rows))
    words = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    console.print(f"{station.url}: {words or 'nothing is labelled'}: {folder}", markup=False)


def _take(station: Station, entry: LedgerEntry, folder: Path) -> tuple[str, int]:
    """Have the picture of a verdict in the folder; say what was done, and how large it is."""
    if entry.challenge is not None:
        return "of challenge parts, left out", 0
    path = folder / _name(entry)
    if path.is_file():
        return "here already", path.stat().st_size
    data = station.image(entry) if entry.image_file is not None else None
    if data is None:
        return "labelled and no picture kept", 0
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data, synced=False)
    return "fetched", len(data)


def _name(entry: LedgerEntry) -> str:
    # Of checked fields: nothing that a server says is a path.
    return f"images/{entry.camera}/{entry.epoch}-{entry.sequence}.png"


def _row(entry: LedgerEntryInFull) -> dict[str, object]:
    newest = entry.labels[0]
    told = {**entry.model_dump(mode="json"), **newest.model_dump(mode="json")}
    last: dict[str, str] = {}
    for label in entry.labels:
        last.setdefault(label.labeller, label.label)
    disputed = len(set(last.values())) > 1 or (entry.verdict.value, newest.label) in _CONTRADICTING
    model = f"{entry.bundle_name}-{entry.bundle_version}" if entry.bundle_name else ""
    made = {"image": _name(entry), "model": model, "disagreement": str(disputed).lower()}
    return {column: made[column] if column in made else told[column] for column in COLUMNS}


def _too_much(station: Station, what: str) -> StationError:
    return StationError(
        f"{station.url}: more than {what}; ask for fewer, as ?since=2026-05-04T06:00:00Z"
    )
