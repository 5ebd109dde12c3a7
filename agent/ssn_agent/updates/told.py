"""What a shadow tells the updates process: a line of JSON each, on its standard output."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from ssn_agent.updates.evidence import Report
from ssn_agent.updates.state import Figures


class Line(BaseModel):
    """A step of a shadow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Literal["alive", "tried", "begins", "refused", "done"]
    """tried: it reproduces its vectors; begins: it looks at frames; refused, done: the end."""
    detail: str | None = None
    figures: Figures = {}
    report: Report | None = None
    """Of `done`; None: there is nothing in force to compare it with."""
