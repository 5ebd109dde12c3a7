"""What is said of drift: a figure of the last parts beside the bundle's good images."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ssn_contract.manifest import Time

Statistic = Literal["score", "brightness", "black", "saturated", "sharpness", "shift"]
MAX_DRIFTS = 24
"""Of a camera, at most, are told of: those that drift first."""


class DriftStatus(BaseModel):
    """One figure over the last parts that were judged. Published, as all of `messages`."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )

    statistic: Statistic
    product: Annotated[str, Field(max_length=64)] | None
    """Whose parts they are; null where the camera's own bundle judges them."""
    parts: Annotated[int, Field(ge=0)]
    """How many are looked at; it is decided when there are as many as the settings want."""
    median: float | None
    """Of those parts; null while they are too few."""
    low: float | None
    """A median below it is drift; null where there is none."""
    high: float | None
    """A median above it is drift, likewise."""
    since: Time | None
    """null: it does not drift."""
