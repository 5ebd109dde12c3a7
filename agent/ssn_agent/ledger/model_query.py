"""Reading which bundle judged when, and why."""

import json
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, select

from ssn_agent.ledger.database import translated
from ssn_agent.ledger.tables import ModelEvent
from ssn_contract.messages import BundleRef


class ModelStepEntry(BaseModel):
    """A row of `model_events`."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    step: str
    follows: str | None
    camera: str | None
    bundle: BundleRef | None
    detail: str | None
    figures: dict[str, float | int | str | None]


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


def _bundle(name: str | None, version: str | None, digest: str | None) -> BundleRef | None:
    if name is None or version is None or digest is None:
        return None
    return BundleRef(name=name, version=version, digest=digest)
