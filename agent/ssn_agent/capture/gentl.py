"""Placeholder until the driver lands in the next change."""

from ssn_agent.capture.camera import Camera
from ssn_agent.capture.settings import GenTlSource
from ssn_agent.errors import CameraError


def GenTlCamera(source: GenTlSource) -> Camera:  # noqa: N802
    """Say that there is no driver yet. Raises CameraError."""
    raise CameraError(f"{source.kind}: no driver yet")
