"""Reading which bundle judged when, and why."""

import json
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, select

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.model_events import IN_FORCE
from ssn_agent.ledger.tables import ModelEvent
from ssn_contract.messages import BundleRef

Facts = dict[str, float | int | str | None]


class ModelStepEntry(BaseModel):
    """A row of `model_events`."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    step: str
    follows: str | None
    camera: str | None
    bundle: BundleRef | None
    detail: str | None
    figures: Facts


def history(engine: Engine, limit: int) -> list[ModelStepEntry]:
    """Return so many of the newest steps, the newest first. Raises LedgerError."""
    newest = select(ModelEvent.__table__).order_by(ModelEvent.id.desc()).limit(limit)
    with translated(engine), engine.connect() as connection:
        found = connection.execute(newest).all()
    return [
        ModelStepEntry(
            at=row.at,
            step=row.step,
            follows=row.follows,
            camera=row.camera,
            bundle=_bundle(row.bundle_name, row.bundle_version, row.bundle_digest),
            detail=row.detail,
            figures=json.loads(row.figures),
        )
        for row in found
    ]


def judged_on(engine: Engine, camera: str, digest: str, at: datetime) -> Facts | None:
    """Return what a bundle judged a camera on at a time (`runtime_facts`); None: it is not known.

    Raises LedgerError.
    """
    newest = (
        select(ModelEvent.figures)
        .where(
            ModelEvent.step == IN_FORCE,
            ModelEvent.camera == camera,
            ModelEvent.bundle_digest == digest,
            ModelEvent.at <= at,
        )
        .order_by(ModelEvent.at.desc(), ModelEvent.id.desc())
        .limit(1)
    )
    with translated(engine), engine.connect() as connection:
        found = connection.execute(newest).scalar()
    facts: Facts | None = None if found is None else json.loads(found)
    return facts


def _bundle(name: str | None, version: str | None, digest: str | None) -> BundleRef | None:
    if name is None or version is None or digest is None:
        return None
    return BundleRef(name=name, version=version, digest=digest)
