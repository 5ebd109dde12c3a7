"""`reference.json` of a bundle: what its good training images look like, as the trainer wrote it.

`ssn_agent.inference.fitness` measures them, in the trainer and in the agent alike, and says what
follows for a picture; `drift` what follows for a row of them. Raw scores of the training images
stand beside, for people.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, model_validator

VIEW_PX = 32
"""Side of the small gray picture that says where things are."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Spread(_Model):
    """A figure over the good images."""

    lowest: float
    median: float
    highest: float

    @model_validator(mode="after")
    def _rises(self) -> "Spread":
        if not self.lowest <= self.median <= self.highest:
            raise ValueError("lowest, median and highest do not rise")
        return self


def _within(least: float, most: float) -> AfterValidator:
    def check(spread: Spread) -> Spread:
        if spread.lowest < least or spread.highest > most:
            raise ValueError(f"not from {least} to {most}")
        return spread

    return AfterValidator(check)


_Pixels = Annotated[Spread, _within(1, 65_535)]
_Share = Annotated[Spread, _within(0, 1)]


class View(_Model):
    """Where things are in the good images; each was compared with those of other parts alone."""

    pixels: Annotated[Base64Bytes, Field(min_length=VIEW_PX**2, max_length=VIEW_PX**2)]
    """The mean of their small pictures, row by row; see `fitness`."""
    shift: _Share
    """How far the images lie from it, in sides of the picture."""
    match: Annotated[Spread, _within(-1e6, 1e6)]
    """How well they fit there."""


class Pictures(_Model):
    """The good training images; all but their sizes measured at half the network's size."""

    images: Annotated[int, Field(ge=1)]
    width: _Pixels
    """In pixels, as `height`: of what was made the network's input."""
    height: _Pixels
    brightness: Annotated[Spread, _within(0, 255)]
    """Mean gray level."""
    black: _Share
    """Share of the pixels."""
    saturated: _Share
    sharpness: Annotated[Spread, _within(-50, 50)]
    """In logarithms."""
    view: View | None
    """None: they show one part alone, or no two of them are of different parts."""


class Scores(_Model):
    """Raw scores, in fp32, of good images that the model was not trained on: the tune part's.

    Those that it was trained on score lower than any it will see.
    """

    images: Annotated[int, Field(ge=1)]
    deciles: Annotated[tuple[float, ...], Field(min_length=11, max_length=11)]
    """The lowest, those that 10 to 90 % of the images do not exceed, the highest."""

    @model_validator(mode="after")
    def _rises(self) -> "Scores":
        if list(self.deciles) != sorted(self.deciles):
            raise ValueError("the deciles do not rise")
        return self


class Reference(_Model):
    """What good images look like. A bundle of before `version` has none of `pictures`."""

    version: Literal[1] = 1
    pictures: Pictures | None = None
    scores: Scores | None = None
    """None in bundles of earlier versions, and where there were no such images."""
