"""A verdict's heatmap and picture: whether they are wanted, and whether the disk keeps up."""

import time
from typing import TYPE_CHECKING

from ssn_agent.frames.layout import Captured, Outcome
from ssn_agent.inference.image_files import image_path
from ssn_agent.inference.image_writer import Heatmap, Image, ImageWriter, Picture
from ssn_agent.inference.keeping import is_kept
from ssn_agent.log import logger
from ssn_agent.settings import Settings

if TYPE_CHECKING:
    from ssn_agent.capture.settings import Region
    from ssn_agent.inference.lane import Lane, Waiting
    from ssn_agent.inference.scorer import Scored, Scorer


class Images:
    """Takes what is wanted before a result is written, and writes it after that.

    What is taken is promised in the result; where the disk does not keep up, nothing is.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the settings of the files' folders."""
        self._folders = {Heatmap: settings.heatmap_dir, Picture: settings.image_dir}
        self._writer = ImageWriter()

    def draw(
        self, lane: "Lane", outcome: Outcome, scored: "Scored", scorer: "Scorer"
    ) -> Heatmap | None:
        """Return a verdict's heatmap where one is wanted and can be written."""
        wanted = {"fail": outcome is Outcome.FAIL, "all": True, "none": False}
        if not wanted[lane.settings.heatmap]:
            return None
        if not self._writer.has_room(scored.map.nbytes):
            logger().error("no heatmap", camera=lane.name, problem="the disk is too slow")
            return None
        return Heatmap(scored.map, scorer.precision.map)

    def keeps(self, waiting: "Waiting", outcome: Outcome, scored: "Scored") -> bool:
        """Say whether the picture of a judged part is to be kept; of one that is late, none is."""
        lane = waiting.lane
        return time.monotonic_ns() <= waiting.deadline_ns and is_kept(
            lane.settings.keep,
            outcome,
            scored.score,
            lane.settings.threshold,
            lane.journal.header.epoch,
            waiting.sequence,
        )

    def take(self, lane: "Lane", captured: Captured, region: "Region") -> Picture | None:
        """Return a copy of what the model saw, where it can be written."""
        picture = lane.picture(captured, region)
        if not self._writer.has_room(picture.nbytes):
            logger().error("no picture kept", camera=lane.name, problem="the disk is too slow")
            return None
        return picture.copied()

    def write(self, lane: "Lane", sequence: int, image: Image | None) -> None:
        """Have one that was promised written."""
        if image is None:
            return
        root = self._folders[type(image)]
        path = image_path(root, lane.name, lane.journal.header.epoch, sequence)
        self._writer.write(path, image)

    def close(self) -> None:
        """Write what waits, unless the disk is too slow for it."""
        self._writer.close()
