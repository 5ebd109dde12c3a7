"""Messages that cross the ZeroMQ input of a camera: docs/zeromq.md has the table of their parts."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from ssn_contract.messages import PartId, Product, Sequence, Text, TriggerId, _Inward, _Outward

MAX_HEADER_BYTES = 4096
MAX_SIDE_PX = 32_767
FrameState = Literal["taken", "awaited", "none"]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]

_SHAPE = ("height", "width", "channels")
_NULL: dict[str, Any] = {"type": "null"}
_WHOLE_SHAPE: dict[str, Any] = {
    "required": list(_SHAPE),
    "properties": {name: {"not": _NULL} for name in _SHAPE},
}
_NO_SHAPE: dict[str, Any] = {"properties": dict.fromkeys((*_SHAPE, "frame_id"), _NULL)}


class PartHeader(_Inward):
    """The second part of a message to a camera: what the part is, and the shape of its pixels."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_WHOLE_SHAPE, _NO_SHAPE]})

    version: Literal[1]
    """Of this format; a station refuses one that it does not know."""
    part_id: PartId | None = None
    product: Product | None = None
    height: Side | None = None
    width: Side | None = None
    channels: Literal[1, 3] | None = None
    """1: gray, [H, W]; 3: RGB, [H, W, 3]."""
    frame_id: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """The camera's own count of its frames."""

    @model_validator(mode="after")
    def _shape_is_whole_or_absent(self) -> "PartHeader":
        given = [getattr(self, name) is not None for name in _SHAPE]
        if any(given) != all(given):
            raise ValueError("height, width and channels go together")
        if self.frame_id is not None and not all(given):
            raise ValueError("frame_id goes with height, width and channels")
        return self

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Return [H, W] or [H, W, 3] of the pixels that follow; None: none do."""
        if self.height is None or self.width is None:
            return None
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, 3)


_NUMBERED = ("epoch", "sequence", "repeated", "frame")
_ACCEPTED: dict[str, Any] = {
    "properties": {
        "status": {"const": "accepted"},
        **{name: {"not": _NULL} for name in ("id", *_NUMBERED)},
        "problem": _NULL,
    }
}
_NOT_ACCEPTED: dict[str, Any] = {
    "properties": {
        "status": {"enum": ["refused", "malformed"]},
        **dict.fromkeys(_NUMBERED, _NULL),
        "problem": {"not": _NULL},
    }
}
"""`PartAnswer._holds_together`, in the words of JSON Schema."""


class PartAnswer(_Outward):
    """What became of a message to a camera; sent before any verdict exists."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_ACCEPTED, _NOT_ACCEPTED]})
    version: Literal[1] = 1
    id: TriggerId | None
    """The sender's id; null where it could not be read."""
    status: Literal["accepted", "refused", "malformed"]
    """accepted: counted under `epoch` and `sequence`, and one verdict follows.
    refused: not counted; send it again. malformed: not counted, and never will be."""
    epoch: UUID | None = None
    sequence: Sequence | None = None
    repeated: bool | None = None
    """The id was known: the numbers are those of the first time, and nothing was counted now."""
    frame: FrameState | None = None
    """taken: the part's frame is there. awaited: the trigger waits for it. none: the part stays
    without a frame, and its verdict is INVALID."""
    problem: Text | None = None
    """Why it was not accepted."""

    @model_validator(mode="after")
    def _holds_together(self) -> "PartAnswer":
        numbers = [getattr(self, name) is not None for name in _NUMBERED]
        accepted = self.status == "accepted"
        if set(numbers) != {accepted} or (self.problem is None) != accepted:
            raise ValueError("accepted has epoch, sequence, repeated and frame, else a problem")
        if accepted and self.id is None:
            raise ValueError("accepted names its id")
        return self
