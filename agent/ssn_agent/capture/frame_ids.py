"""What a device's frame ids say about frames that never came. Rules alone: no camera here."""

from ssn_agent.capture.camera import FrameIds

MAX_MISSED = 1000
"""A larger jump is no loss but another count: the device was restarted, or counts otherwise."""


def following(frame_id: int, ids: FrameIds) -> int:
    """Return the id of the next frame."""
    return ids.first if frame_id == ids.last else frame_id + 1


def missed(previous: int, current: int, ids: FrameIds) -> int | None:
    """Return how many frames lie between two that came one after the other; -1: it is the same.

    None where the ids do not count on: backwards, or too far ahead. Then nobody knows.
    """
    ahead = current - previous
    if ahead < 0 and previous <= ids.last:  # beyond it the device counts wider than it said
        ahead += ids.last - ids.first + 1
    return ahead - 1 if 0 <= ahead <= MAX_MISSED + 1 else None
