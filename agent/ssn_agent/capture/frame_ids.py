"""What a device's frame ids say about frames that never came. Rules alone: no camera here."""

from ssn_agent.capture.camera import FrameIds
from ssn_agent.errors import CameraError

MAX_MISSED = 1000
"""A larger jump is no loss but another count: the device was restarted, or counts otherwise."""


def missed(previous: int, current: int, ids: FrameIds) -> int:
    """Return how many frames lie between two that came one after the other.

    Raises CameraError where the ids do not count on: backwards, twice the same, or too far ahead.
    """
    ahead = current - previous
    if ahead <= 0 and previous <= ids.last:  # beyond it the device counts wider than it said
        ahead += ids.last - ids.first + 1
    if not 0 < ahead <= MAX_MISSED + 1:
        msg = f"frame id {current} after {previous}: the device counts anew; it is opened again"
        raise CameraError(msg)
    return ahead - 1
