"""Journal records to build tests from: a trigger, its frame, a result of each kind."""

from pathlib import Path
from uuid import UUID

from ssn_agent.frames.journal import Journal, boot_id
from ssn_agent.frames.layout import Accepted, Captured, Defect, Header, Outcome, Result
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_contract.messages import InvalidReason

EPOCH = UUID("00112233-4455-6677-8899-aabbccddeeff")
DEADLINE_NS = 2_000_000_000
DIGEST = "ab" * 32
SETTINGS_DIGEST = "cd" * 32
START_UTC_NS = 1_767_225_600_000_000_000
FRAME = Captured(None, 2, 48, 64, PixelFormat.RGB8, frame_monotonic_ns=5, frame_id=9)
DEFECT = Defect(x=10, y=20, width=30, height=40, area_px=900, peak_x=22, peak_y=33, peak=0.75)
LATE = Result(Outcome.INVALID, InvalidReason.LATE, 10)


def trigger(at_ns: int = 0, part_id: str | None = "part-1") -> Accepted:
    """Return a trigger at a monotonic time, with two seconds to its deadline."""
    return Accepted(at_ns, START_UTC_NS + at_ns, at_ns + DEADLINE_NS, part_id, None)


def judged(
    outcome: Outcome, at_ns: int = 10, *, heatmap: bool = False, image: bool = False
) -> Result:
    """Return a result that the brightness bundle could have given."""
    failed = outcome is Outcome.FAIL
    return Result(
        outcome,
        None,
        at_ns,
        score=0.875 if failed else 0.125,
        threshold=0.5,
        settings_digest=SETTINGS_DIGEST,
        bundle_digest=DIGEST,
        bundle_name="brightness",
        bundle_version="1.0.0",
        engine="onnxruntime-cpu/fp32",
        heatmap=heatmap,
        image=image,
        region=(0, 0, FRAME.width, FRAME.height),
        defects=(DEFECT,) if failed else (),
        defect_count=1 if failed else 0,
    )


def new_journal(
    path: Path,
    *,
    capacity: int = 8,
    first: int = 1,
    camera: str = "left",
    boot: UUID | None = None,
    epoch: UUID = EPOCH,
) -> Journal:
    """Make an empty journal of this boot."""
    return Journal.create(path, Header(camera, epoch, boot or boot_id(), first, capacity))
