"""The settings of challenges: what a camera must judge rightly, and when."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ssn_agent.section import Section
from ssn_contract.messages import Goodness

Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=120)], ...], Field(max_length=32)
]
"""Part ids, with `*`, `?` and `[...]`."""


class ChallengeSettings(Section):
    """What is known to be good and bad, and when it has to be judged so (docs/challenge.md)."""

    good_images: Path | None = None
    """A folder of pictures as the model sees them: the region of interest alone."""
    bad_images: Path | None = None
    good_parts: Patterns = ()
    """Ids of parts that people put before the camera."""
    bad_parts: Patterns = ()
    at: Annotated[
        tuple[Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")], ...],
        Field(max_length=24),
    ] = ()
    """Shift starts, in the machine's local time: everything has to be judged anew from then on."""
    within_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 15.0
    """So long verdicts go on while something is still to be shown."""

    @field_validator("good_images", "bad_images")
    @classmethod
    def _found_from_anywhere(cls, value: Path | None) -> Path | None:
        return None if value is None else value.absolute()

    @model_validator(mode="after")
    def _has_both(self) -> "ChallengeSettings":
        if not (self.good_images or self.good_parts) or not (self.bad_images or self.bad_parts):
            msg = "nothing good or nothing bad is named; set good_images or good_parts, and for bad"
            raise ValueError(f"{msg} likewise: one alone does not tell a model that says one thing")
        return self

    def expected_of(self, part_id: str | None) -> tuple[Goodness, str] | None:
        """Return what a part is known to be, and the pattern that says so; bad before good.

        None: it is a part like any other.
        """
        known: tuple[tuple[Goodness, tuple[str, ...]], ...] = (
            ("bad", self.bad_parts),
            ("good", self.good_parts),
        )
        for expected, patterns in known:
            for pattern in patterns:
                if part_id is not None and fnmatchcase(part_id, pattern):
                    return expected, pattern
        return None
