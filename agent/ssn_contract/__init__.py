"""What SSN Inspect says to the world: bundle manifest, messages, topics. Needs pydantic alone."""

from ssn_contract.challenge import ChallengeReport
from ssn_contract.channel import Announcement, ChannelBundle
from ssn_contract.manifest import Manifest
from ssn_contract.messages import (
    CameraStatus,
    DefectRegion,
    InvalidReason,
    Label,
    ModelInForce,
    StationStatus,
    Trigger,
    Verdict,
    VerdictKind,
)
from ssn_contract.metrics import StationMetrics
from ssn_contract.topics import Topics

__all__ = [
    "Announcement",
    "CameraStatus",
    "ChallengeReport",
    "ChannelBundle",
    "DefectRegion",
    "InvalidReason",
    "Label",
    "Manifest",
    "ModelInForce",
    "StationMetrics",
    "StationStatus",
    "Topics",
    "Trigger",
    "Verdict",
    "VerdictKind",
]
