"""The HTTP API's routes that answer with a picture: a verdict's heatmap, and what the model saw."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine

from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger import query
from ssn_contract.http import LedgerEntryInFull
from ssn_contract.manifest import Name
from ssn_contract.messages import Sequence

CHUNK_BYTES = 2**16
"""A picture may be larger than this process should hold."""


class PictureRoutes:
    """What the routes need."""

    def __init__(self, engine: Engine, station: str, heatmap_dir: Path, image_dir: Path) -> None:
        """Take an engine that only reads, and the folders of the files."""
        self._engine = engine
        self._station = station
        self._heatmap_dir = heatmap_dir
        self._image_dir = image_dir

    def verdict(self, camera: Name, epoch: UUID, sequence: Sequence) -> LedgerEntryInFull:
        """Return one verdict of this station, with its regions and labels."""
        found = query.entry(self._engine, self._station, camera, epoch, sequence)
        if found is None:
            raise HTTPException(404, "no such verdict in the ledger of this station")
        return found

    def heatmap(self, camera: Name, epoch: UUID, sequence: Sequence) -> Response:
        """Return a verdict's heatmap, as `docs/contract.md` describes it."""
        if self.verdict(camera, epoch, sequence).heatmap_file is None:
            raise HTTPException(404, "the verdict has no heatmap")
        return _png("heatmap", image_path(self._heatmap_dir, camera, epoch, sequence))

    def image(self, camera: Name, epoch: UUID, sequence: Sequence) -> Response:
        """Return the picture that was judged, as the model saw it before it was resized."""
        if self.verdict(camera, epoch, sequence).image_file is None:
            raise HTTPException(404, "no picture was kept of this part")
        return _png("picture", image_path(self._image_dir, camera, epoch, sequence))


def _png(what: str, path: Path) -> Response:
    """Answer with a file, whose place was made from the checked key.

    Nothing that a client or a row says is a path.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise HTTPException(404, f"the {what} is not kept, or not written yet") from error
    return StreamingResponse(_chunks(file), media_type="image/png")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
