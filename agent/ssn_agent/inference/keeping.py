"""Which pictures are kept for people to label. Rules alone: no clock, no file here.

A picture that is not fit to judge is not kept: it says nothing of the part.
"""

from hashlib import blake2b
from uuid import UUID

from ssn_agent.frames.layout import Outcome
from ssn_agent.inference.settings import KeepSettings


def is_kept(
    keep: KeepSettings,
    outcome: Outcome,
    score: float,
    threshold: float,
    epoch: UUID,
    sequence: int,
) -> bool:
    """Say whether the picture of a judged part is worth a label."""
    if outcome is Outcome.FAIL and keep.fail:
        return True
    if abs(score - threshold) <= keep.near:
        return True
    return outcome is Outcome.PASS and share_of(epoch, sequence) < keep.pass_share


def share_of(epoch: UUID, sequence: int) -> float:
    """Return a number in [0, 1) that looks random, and is the same for this part at all times."""
    digest = blake2b(sequence.to_bytes(8, "big"), key=epoch.bytes, digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
