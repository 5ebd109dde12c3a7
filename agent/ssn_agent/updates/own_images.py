"""The station's own labelled images: what people said of parts whose pictures were kept."""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import BundleError
from ssn_agent.frames.pixels import MAX_FILE_BYTES
from ssn_agent.ledger.database import translated
from ssn_agent.ledger.reader import open_ledger
from ssn_agent.ledger.tables import LabelRow, Stream, TriggerRow, VerdictRow
from ssn_agent.log import logger
from ssn_agent.settings import Judge, Settings

MAX_IMAGES = 500
"""The newest labels; minutes on a small box, at the pace of a shadow."""
DATA = "data.json"
_LISTED = ("train", "tune")


@dataclass(frozen=True)
class OwnImage:
    """A picture as the model saw it, and what people say of it."""

    path: Path
    is_bad: bool
    threshold: float
    """Of its camera: FAIL from this calibrated score on."""
    judge: Judge
    """What the settings say of its camera and product."""


def own_images(settings: Settings, follows: str) -> list[OwnImage]:
    """Return them, by the newest label of each part, those with the newest label first.

    Parts of products that follow another name, challenge parts, and pictures that retention has
    deleted since are left out. Raises LedgerError.
    """
    newest = select(func.max(LabelRow.id)).group_by(LabelRow.trigger_id)
    query = (
        select(Stream.camera, TriggerRow.product, VerdictRow.image_file, LabelRow.label)
        .select_from(LabelRow)
        .join(VerdictRow, VerdictRow.trigger_id == LabelRow.trigger_id)
        .join(TriggerRow, TriggerRow.id == LabelRow.trigger_id)
        .join(Stream, Stream.id == TriggerRow.stream_id)
        .where(
            LabelRow.id.in_(newest),
            VerdictRow.image_file.is_not(None),
            VerdictRow.challenge.is_(None),
            Stream.station == str(settings.station),
            Stream.camera.in_(list(settings.cameras)),
        )
        .order_by(LabelRow.id.desc())
    )
    engine = open_ledger(settings.ledger_path)
    found: list[OwnImage] = []
    with translated(engine), engine.connect() as connection:
        for camera, product, file, label in connection.execute(query):
            one = settings.cameras[camera]
            judge = one.judge_of(product)
            path = settings.data_dir / str(file)
            if judge is not None and judge.follow == follows and path.is_file():
                found.append(OwnImage(path, label == "bad", one.threshold, judge))
            if len(found) == MAX_IMAGES:
                break
    return found


def trained_on(bundle: Bundle) -> frozenset[str]:
    """Return the digests of the images that a bundle was trained or tuned on; of none, none."""
    try:
        parts = json.loads(bundle.read(DATA))["parts"]
        return frozenset(image["digest"] for part in _LISTED for image in parts[part])
    except (BundleError, ValueError, KeyError, TypeError) as error:
        logger().warning("not said what it was trained on", bundle=str(bundle.path), why=str(error))
        return frozenset()


def unseen(images: Collection[OwnImage], seen: Collection[str]) -> Iterator[OwnImage]:
    """Yield those whose file is not among these digests."""
    for image in images:
        try:
            with image.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES)
        except OSError as error:
            logger().warning("a labelled image is left out", problem=str(error))
            continue
        if hashlib.sha256(data).hexdigest() not in seen:
            yield image
