"""Pictures that were kept and what people say of them, as a folder that `ssn-trainer fit` reads."""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, select

from ssn_agent.errors import UsageError
from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.label_query import contradicts, standing_labels
from ssn_agent.ledger.query import Filter
from ssn_agent.ledger.tables import LabelRow, Stream, TriggerRow, VerdictRow

COLUMNS = (
    "image",
    "part_id",
    "product",
    "camera",
    "epoch",
    "sequence",
    "triggered_at",
    "score",
    "verdict",
    "model",
    "label",
    "defect_type",
    "labeller",
    "labelled_at",
    "disagreement",
)
CHUNK = 1000
"""Rows that are read at once."""
LEFT_FREE = 0.05
"""Of the disk: the ledger may lie on the same one, and needs it more."""


@dataclass
class Exported:
    """What was written."""

    images: int = 0
    good: int = 0
    bad: int = 0
    disagreements: int = 0
    missing: int = 0
    """Pictures that the ledger names and that are gone, or were never written: left out."""

    def __str__(self) -> str:
        """Say it in a line."""
        unlabelled = self.images - self.good - self.bad
        parts = [f"{self.images} images", f"{self.good} good", f"{self.bad} bad"]
        parts += [f"{unlabelled} unlabelled"] if unlabelled else []
        return ", ".join([*parts, f"{self.disagreements} disagreements", f"{self.missing} missing"])


def export_for_training(
    engine: Engine, image_dir: Path, out: Path, wanted: Filter, *, unlabelled: bool = False
) -> Exported:
    """Copy the pictures of labelled parts into `out`, with a table of what is known of them.

    `unlabelled` adds those that nobody has labelled. Challenge parts are left out: they are test
    data. The newest label counts. Oldest first. The folder appears whole or not at all. Raises
    LedgerError, UsageError where `out` is there and not empty, or cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out}: is there already and not empty; name another folder")
        done = Exported()
        found = []
        for row in _rows(engine, wanted, unlabelled=unlabelled):
            source = _source(image_dir, row)
            if source.is_file():
                found.append((row, source))
            else:  # far more rows may name a picture than the disk had room for
                done.missing += 1
        _check_room(out, [file for _, file in found])
        with _whole(out) as folder, (folder / "labels.csv").open("x", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for row, source in found:
                image = f"images/{row.camera}/{row.epoch}-{row.sequence}.png"
                if _copied(source, folder / image):
                    table.writerow(_cells(row, image))
                    _count(done, row)
                else:
                    done.missing += 1
    except OSError as error:
        msg = (
            f"{error.filename or out}: {error.strerror}; "
            "name a folder elsewhere, or ask as root or as the agent's own user"
        )
        raise UsageError(msg) from error
    return done


def _rows(engine: Engine, wanted: Filter, *, unlabelled: bool) -> Iterator[Row[Any]]:
    """Yield them; who copies files reads all first: the ledger's log is to wait for none."""
    standing = standing_labels()
    query = (
        select(
            *(Stream.camera, Stream.epoch, TriggerRow.sequence, TriggerRow.triggered_at),
            *(TriggerRow.part_id, TriggerRow.product, VerdictRow.verdict, VerdictRow.score),
            *(VerdictRow.bundle_name, VerdictRow.bundle_version),
            *(LabelRow.label, LabelRow.defect_type, LabelRow.labeller, LabelRow.labelled_at),
            contradicts(standing).label("disagreement"),
        )
        .select_from(TriggerRow)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .join(VerdictRow, VerdictRow.trigger_id == TriggerRow.id)
        .join(standing, standing.c.trigger_id == TriggerRow.id, isouter=unlabelled)
        .join(LabelRow, LabelRow.id == standing.c.newest, isouter=unlabelled)
        .where(
            VerdictRow.image_file.is_not(None),
            VerdictRow.challenge.is_(None),
            *wanted.conditions(),
        )
        .order_by(TriggerRow.id)
    )
    with translated(engine), engine.connect() as connection:
        found: Iterable[Row[Any]] = connection.execution_options(yield_per=CHUNK).execute(query)
        yield from found


def _source(image_dir: Path, row: Row[Any]) -> Path:
    # By its key: what a row says of a file is no path, and the data may have moved since.
    return image_path(image_dir, row.camera, row.epoch, row.sequence)


def _check_room(out: Path, files: Sequence[Path]) -> None:
    needed = sum(file.stat().st_size for file in files if file.exists())
    disk = shutil.disk_usage(out.absolute().parent)
    if disk.free - needed < LEFT_FREE * disk.total:
        msg = (
            f"{out}: the images take {needed / 2**20:.0f} MiB, and too little of the disk would be "
            "left free; name a folder on another one, or fewer images (--since)"
        )
        raise UsageError(msg)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes `out` at the end; nothing is left of it where that fails."""
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copied(source: Path, target: Path) -> bool:
    """Copy a picture; False: it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as original, target.open("xb") as copy:
            shutil.copyfileobj(original, copy)
    except FileNotFoundError:
        return False
    return True


def _cells(row: Row[Any], image: str) -> list[object]:
    """Return a line of the table, in the order of `COLUMNS`; csv writes nothing for None."""
    model = f"{row.bundle_name}-{row.bundle_version}" if row.bundle_name else None
    return [
        *(image, row.part_id, row.product, row.camera, row.epoch, row.sequence),
        *(_zulu(row.triggered_at), row.score, row.verdict, model),
        *(row.label, row.defect_type, row.labeller),
        _zulu(row.labelled_at) if row.labelled_at is not None else None,
        "true" if row.disagreement else "false",
    ]


def _zulu(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _count(done: Exported, row: Row[Any]) -> None:
    done.images += 1
    done.good += row.label == "good"
    done.bad += row.label == "bad"
    done.disagreements += bool(row.disagreement)
