"""The settings of retention: how long verdicts and images are kept, and how much of the disk."""

from typing import Annotated

from pydantic import Field

from ssn_agent.section import Section

Days = Annotated[float, Field(gt=0, le=36_500)]
Gib = Annotated[float, Field(gt=0, le=2**20)]


class RetentionSettings(Section):
    """What is older goes, and the oldest goes first where there is no room for it.

    By default on a disk of 64 GB, which are 60 GiB: 40 GiB for all three, the rest for the system.
    A verdict takes 1.2 KB: 20 GiB are 100 days at 2 parts a second, 6 days at 30. A gray picture
    takes half a byte a pixel: 10 GiB are 70 000 of 640 x 480, or 4000 of 5 megapixels.
    """

    verdict_days: Days = 90.0
    """Long, for nobody gets a verdict back: where there is less room, an alarm says so. Those that
    people have labelled stay, as long as `ledger_gib` has room for them."""
    ledger_gib: Gib = 20.0
    """What the ledger may hold; its file and what SQLite keeps beside it are a little larger."""
    heatmap_days: Days = 30.0
    heatmap_gib: Gib = 10.0
    image_days: Days = 90.0
    """Of pictures that are kept to be labelled; those that people have labelled stay, as long as
    `image_gib` has room for them."""
    image_gib: Gib = 10.0
    min_free_percent: Annotated[float, Field(ge=0, le=50)] = 5.0
    """Of the disk. Where less is free, heatmaps go, then pictures; an hour later, as many verdicts
    as come."""
