"""What a verdict was made from, as ledger and disk hold it: picture, settings, bundle, runtime."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine, select

from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.in_use import bundles_in_use
from ssn_agent.capture.settings import Region
from ssn_agent.errors import ImageError, ReplayError
from ssn_agent.frames.pixels import Pixels, read_image
from ssn_agent.inference.engines.cores import physical_cores
from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger import query
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.tables import ModelEvent, SettingsChange
from ssn_agent.settings import Settings
from ssn_agent.updates.state import read_state
from ssn_contract.http import LedgerEntryInFull
from ssn_contract.messages import VerdictKind

_HASHED_BYTES = 2**20


class Missing(IntEnum):
    """Exit codes: what a verdict cannot be replayed without."""

    VERDICT = 3
    PICTURE = 4
    BUNDLE = 5
    SETTINGS = 6
    ENGINE = 7


class _Camera(BaseModel):
    roi: Region | None = None
    min_defect_area_px: int


class _Inference(BaseModel):
    threads: int
    cpus: tuple[int, ...] = ()
    max_batch: int = 0


class JudgedBy(BaseModel):
    """What bears on a judged verdict of the settings in the ledger.

    Read apart from `Settings`: they may name files and processors that are not here.
    """

    cameras: dict[str, _Camera]
    inference: _Inference

    @property
    def threads(self) -> int:
        """Return how many threads an engine had, where nothing else says it."""
        return self.inference.threads or physical_cores(self.inference.cpus)


@dataclass(frozen=True)
class Record:
    """A judged verdict and all that it was made from."""

    entry: LedgerEntryInFull
    picture: Pixels
    bundle: Bundle
    settings: JudgedBy
    facts: dict[str, object]
    """What its engine ran on (`ledger.runtime_facts`); empty where the ledger does not say."""


def find(
    engine: Engine,
    settings: Settings,
    camera: str,
    epoch: UUID,
    sequence: int,
    bundle: Path | None,
) -> Record:
    """Gather a verdict of this station by its key; `bundle` names a file to take, and no other.

    Raises ReplayError, whose exit code says what is missing, BundleError, LedgerError.
    """
    entry = query.entry(engine, str(settings.station), camera, epoch, sequence)
    if entry is None:
        msg = f"{camera} {sequence} of {epoch}: no such verdict in the ledger of this station"
        raise ReplayError(msg, Missing.VERDICT)
    if entry.verdict is VerdictKind.INVALID:
        why = entry.reason.value if entry.reason else "without a reason"
        msg = f"{camera} {sequence}: INVALID({why}): no model judged it, there is nothing to replay"
        raise ReplayError(msg, Missing.VERDICT)
    return Record(
        entry,
        _picture(entry, settings),
        _bundle(entry, settings, bundle),
        _judged_by(engine, entry),
        _facts(engine, entry),
    )


def _picture(entry: LedgerEntryInFull, settings: Settings) -> Pixels:
    if entry.image_file is None:
        msg = f"{entry.camera} {entry.sequence}: no picture of it was kept"
        raise ReplayError(msg, Missing.PICTURE)
    # By its key, not by what the row says: the data may have been copied elsewhere.
    path = image_path(settings.image_dir, entry.camera, entry.epoch, entry.sequence)
    try:
        return read_image(path)
    except ImageError as error:
        msg = f"{error}; the picture is gone (retention), or damaged: put it back from a copy"
        raise ReplayError(msg, Missing.PICTURE) from error


def _bundle(entry: LedgerEntryInFull, settings: Settings, named: Path | None) -> Bundle:
    name = f"{entry.bundle_name} {entry.bundle_version}"
    looked_at = [named] if named is not None else list(_candidates(entry, settings))
    for path in looked_at:
        if _digest(path) == entry.bundle_digest:
            return Bundle.open(path)
    where = "is another one" if named is not None else f"is not among {len(looked_at)} bundles here"
    msg = (
        f"{named or settings.bundle_dir}: {name}, digest {entry.bundle_digest}, {where}; give its "
        "file with --bundle, from the channel or a copy"
    )
    raise ReplayError(msg, Missing.BUNDLE)


def _candidates(entry: LedgerEntryInFull, settings: Settings) -> Iterator[Path]:
    """Yield the bundles that are known here, that of the verdict's name and version first."""
    likely = settings.bundle_dir / f"{entry.bundle_name}-{entry.bundle_version}.ssn"
    known = {*settings.bundle_dir.glob("*.ssn"), *bundles_in_use(settings)}
    state = read_state(settings.models_file)
    stored = [s for f in state.followed.values() for s in (f.in_force, f.before, f.candidate)]
    stored += [event.bundle for event in state.events]
    known |= {one.path for one in stored if one is not None}
    yield likely
    yield from sorted(known - {likely})


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where there is none that we may read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASHED_BYTES):
                found.update(chunk)
    except OSError:  # who looks for a bundle says that none is here
        return None
    return found.hexdigest()


def _judged_by(engine: Engine, entry: LedgerEntryInFull) -> JudgedBy:
    wanted = select(SettingsChange.new).where(SettingsChange.new_digest == entry.settings_digest)
    with translated(engine), engine.connect() as connection:
        text = connection.execute(wanted.order_by(SettingsChange.id.desc()).limit(1)).scalar()
    problem = "are not in the ledger any more"
    if text is not None:
        try:
            found = JudgedBy.model_validate_json(text)
            if entry.camera in found.cameras:
                return found
            problem = f"have no camera {entry.camera}"
        except ValidationError as error:
            problem = f"are not ones that this version reads ({error.error_count()} problems)"
    msg = f"the settings that it was judged by, digest {entry.settings_digest[:12]}, {problem}"
    raise ReplayError(msg, Missing.SETTINGS)


def _facts(engine: Engine, entry: LedgerEntryInFull) -> dict[str, object]:
    """Return what the newest step into force before the verdict says of its engine."""
    wanted = select(ModelEvent.figures).where(
        ModelEvent.step == "in_force",
        ModelEvent.camera == entry.camera,
        ModelEvent.bundle_digest == entry.bundle_digest,
        ModelEvent.at <= entry.decided_at,
    )
    with translated(engine), engine.connect() as connection:
        # One engine takes over from another: that which judged is asked for.
        for text in connection.execute(wanted.order_by(ModelEvent.id.desc())).scalars():
            facts: dict[str, object] = json.loads(text)
            if facts.get("engine") == entry.engine:
                return facts
    return {}
