"""The manifest of a bundle (`NAME-VERSION.ssn`): what a model is, and what is expected of it.

Reading is tolerant: fields that a newer writer added are ignored. `schema_version` changes only
when an older reader would go wrong; a reader refuses a version it does not know (docs/contract.md).
"""

from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 as 64 lower-case hexadecimal digits."""

EntryPath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")
]
"""A relative path inside the bundle; neither `..` nor a leading `/` or `.` can be written in it."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A lower-case name that may be a level of an MQTT topic, a folder and a part of a file name."""

Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(timezone.utc)
    except OverflowError as error:
        msg = f"{time} is no time in UTC"
        raise ValueError(msg) from error


Time = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    # The format alone would let a time without its zone pass: validators may ignore formats.
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"}),
]
"""A time with its zone; held and written in UTC."""


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class Regime(str, Enum):
    """Supervision regimes, by the names of the SuperSimpleNet papers."""

    UNSUPERVISED = "unsupervised"
    WEAK = "weak"
    MIXED = "mixed"
    FULL = "full"


class Head(str, Enum):
    """What turns features into a score and a map."""

    LEAN = "lean"
    """SuperSimpleNet's segmentation head; the score from its highest values and pooled features."""
    SUPERSIMPLENET = "supersimplenet"
    GAP_CAM = "gap-cam"


class NetworkInput(_Model):
    """Pixels the network takes: uint8 RGB [N, height, width, 3]; normalised inside the graph."""

    height: Annotated[int, Field(ge=32, le=4096)]
    width: Annotated[int, Field(ge=32, le=4096)]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Calibration(_Model):
    """Raw to published, `1 / (1 + exp(-slope * (raw - threshold)))`: 0.5 is the threshold."""

    threshold: float
    slope: Annotated[float, Field(gt=0)]


class RateLimit(_Model):
    """A limit that was stated for a rate of wrong verdicts, and what the tune part says of it.

    Rates are per part: a part with several images is wrong when any of them is.
    """

    limit: Annotated[float, Field(gt=0, lt=1)]
    parts: Annotated[int, Field(ge=0)]
    """Parts of the tune part that the rate was observed on."""
    observed: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of them that the threshold judges wrongly; null without parts."""
    upper_bound: Annotated[float, Field(ge=0, le=1)] | None = None
    """One-sided 95 % bound of the rate; null without parts."""
    supported: bool
    """Whether the tune part supports that the limit is kept."""
    images_needed: Annotated[int, Field(ge=1)] | None = None
    """Where it does not: how many images of different parts it takes; null where no number does."""


class Threshold(_Model):
    """How the raw threshold of the score was chosen, in words and with the counts behind it."""

    method: str
    good_images: Annotated[int, Field(ge=0)]
    bad_images: Annotated[int, Field(ge=0)]
    false_reject: RateLimit | None = None
    """Good parts that are rejected; null where no limit was stated."""
    escape: RateLimit | None = None
    """Bad parts that pass; null where no limit was stated."""


class Tolerance(_Model):
    """The largest difference from the expected scores and maps that counts as reproduced."""

    score: Annotated[float, Field(gt=0)]
    map: Annotated[float, Field(gt=0)]


class Precision(_Model):
    """One graph of the model, with the calibration that belongs to its arithmetic."""

    name: Literal["fp32", "fp16", "bf16", "int8"]
    file: EntryPath
    """bf16 may name the file of fp32: an engine that has bf16 rounds for itself."""
    score: Calibration
    map: Calibration
    """Its threshold is exceeded by at most 1 % of the good tune images; 128 in the heatmap."""
    tolerance: Tolerance
    """From what the vectors expect, which is the fp32 graph's."""


class Metric(_Model):
    """A measured figure in [0, 1] with its 95 % interval, where one was computed."""

    value: float
    low: float | None = None
    high: float | None = None


class Vector(_Model):
    """A raw image and what the model made of it when it was packed."""

    image: EntryPath
    score: float
    """Raw score of the fp32 graph."""
    map: EntryPath
    """Raw map of the fp32 graph, float32 little-endian, row by row, height x width."""


class Entry(_Model):
    """A file of the bundle other than the manifest."""

    path: EntryPath
    size: Annotated[int, Field(ge=0)]
    sha256: Digest


class Manifest(_Model):
    """The first entry of a bundle; everything else in it is listed here with size and digest."""

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    created_at: Time
    trainer: str
    """Name and version of the program that made it."""
    regime: Regime
    head: Head
    variant: Literal["icpr", "jims"] | None
    """Which features the classification head sees: adapted (ICPR 2024) or not (JIMS 2025)."""
    backbone: str
    input: NetworkInput
    threshold: Threshold
    precisions: Annotated[list[Precision], Field(min_length=1, max_length=4)]
    metrics: dict[str, Metric]
    vectors: Annotated[list[Vector], Field(min_length=1, max_length=64)]
    entries: Annotated[list[Entry], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _names_only_its_entries(self) -> "Manifest":
        paths = [entry.path for entry in self.entries]
        if len(set(paths)) != len(paths):
            msg = "an entry is listed twice"
            raise ValueError(msg)
        needed = {p.file for p in self.precisions} | {v.image for v in self.vectors}
        needed |= {v.map for v in self.vectors}
        missing = sorted(needed - set(paths))
        if missing:
            msg = f"files are named that the bundle does not list: {', '.join(missing)}"
            raise ValueError(msg)
        names = [p.name for p in self.precisions]
        if len(set(names)) != len(names) or "fp32" not in names:
            msg = "precisions must hold fp32, and each name once"
            raise ValueError(msg)
        return self

    def precision(self, name: str) -> Precision:
        """Return the precision of that name; KeyError where the bundle has none."""
        for precision in self.precisions:
            if precision.name == name:
                return precision
        raise KeyError(name)


__all__ = [
    "Calibration",
    "Entry",
    "Head",
    "Manifest",
    "Metric",
    "NetworkInput",
    "Precision",
    "RateLimit",
    "Regime",
    "Threshold",
    "Tolerance",
    "Vector",
]
