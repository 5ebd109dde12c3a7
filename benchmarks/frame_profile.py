"""Where a frame's time goes: each step of the main job, one after the other, in one process.

    python benchmarks/frame_profile.py [--bundle FILE] [--engine NAME] [--image FILE]
        [--pixel-format NAME]

The image defaults to a drawn part of 640 x 480; the pictures that it is checked against are drawn.
Medians and 99th percentiles, milliseconds; the share is of the sum of medians. The commit is
measured on the file system of --scratch. What comes after the result, in a thread beside the next
frame, is in the table and not in the sum.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.reference import Reference
from ssn_agent.capture.settings import Region
from ssn_agent.demo.line import draw_part
from ssn_agent.frames.journal import Journal, boot_id
from ssn_agent.frames.layout import Accepted, Captured, Decision, Header, Outcome, Result
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.pixels import Pixels, read_image, to_network_input
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.crop import cropped
from ssn_agent.inference.engines.available import REFERENCE
from ssn_agent.inference.fitness import MIN_IMAGES, Fitness, describe_pictures, measure
from ssn_agent.inference.regions import encode_heatmap, find_defects
from ssn_agent.inference.repeats import Repeats
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import EngineName, FitnessSettings
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.verdicts import Decided, VerdictWriter
from ssn_agent.ledger.writer import LedgerWriter
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings

BESIDE = "(thread)"
Step = tuple[str, str, Callable[[], object]]


def picture(image: Path | None, pixel_format: PixelFormat) -> Pixels:
    """Return a frame of this format; a Bayer pattern is the gray picture, taken for one."""
    drawn = draw_part(1, "scratch").image if image is None else read_image(image)
    if drawn.ndim != (3 if pixel_format.channels == 3 else 2):
        conversion = cv2.COLOR_GRAY2RGB if drawn.ndim == 2 else cv2.COLOR_RGB2GRAY
        drawn = cv2.cvtColor(drawn, conversion).astype(np.uint8)
    return drawn


def drawn_fitness(frame: Pixels, size: tuple[int, int]) -> Fitness:
    """Return all checks, by drawn good images of the frame's size."""
    drawn = [draw_part(seed, None).image for seed in range(MIN_IMAGES)]
    measured = [measure(to_network_input(d, *size), *frame.shape[:2]) for d in drawn]
    pictures = describe_pictures(measured, [str(i) for i in range(len(drawn))])
    return Fitness(Reference(pictures=pictures), FitnessSettings().checks)


def steps(
    bundle: Path, engine_name: EngineName, frame: Pixels, pixel_format: PixelFormat, scratch: Path
) -> list[Step]:
    """Return (process, name, call) of every step, in the order in which a FAIL takes them."""
    scorer = Scorer(Bundle.open(bundle), engine=engine_name)
    size = scorer.input.height, scorer.input.width
    row = np.empty((*size, 3), np.uint8)
    region = Region(x=0, y=0, width=frame.shape[1], height=frame.shape[0])
    calibration = scorer.precision.map

    def prepare() -> Pixels:
        return to_network_input(cropped(frame, pixel_format, region), *size, out=row)

    fitness = drawn_fitness(frame, size)
    repeats = Repeats()
    other = frame.copy()
    other.flat[-1] ^= 1  # which is seen last
    pair = cycle((frame, other))

    (scored,) = scorer.score_batch(prepare()[np.newaxis])

    journal = Journal.create(scratch / "j", Header("line", uuid4(), boot_id(), 1))
    PixelSlots.create(scratch / "p")
    slots = PixelSlots(scratch / "p")
    taken = slots.write(0, frame, pixel_format)
    png = encode_heatmap(scored.map, calibration)
    defects, count = find_defects(scored.map, calibration, region, 0)
    result = Result(
        Outcome.FAIL,
        None,
        time.monotonic_ns(),
        score=0.9,
        bundle_digest=scorer.bundle.digest,
        bundle_name=scorer.bundle.manifest.name,
        bundle_version=scorer.bundle.manifest.version,
        engine=scorer.engine.name,
        heatmap=True,
        defects=defects,
        defect_count=count,
        settings_digest=32 * "ab",
    )
    settings = Settings.model_validate(
        {
            "data_dir": scratch,
            "runtime_dir": scratch,
            "cameras": {"line": {"source": {"kind": "line"}}},
        }
    )
    engine = open_database(scratch / "ledger.sqlite")
    migrate(engine)
    messages = VerdictWriter(settings)
    writer = LedgerWriter(engine, str(settings.station), messages)
    writer.open_stream("line", journal.header.epoch)

    def accept() -> None:
        now = time.monotonic_ns()
        last = journal.accept(Accepted(now, time.time_ns(), now + 10**9, "part-000001", None))
        journal.capture(last, Captured(None, 0, *taken, now, 1))

    def finish() -> None:
        journal.finish(journal.head, result)

    def decide() -> Decided:
        now = time.monotonic_ns()
        decision = Decision(Outcome.FAIL, None, now, time.time_ns())
        journal.decide(journal.head, decision)
        entry = journal.read(journal.head)
        if entry is None:
            raise LookupError(journal.head)
        return Decided(journal.header, entry, messages.message(journal.header, entry, decision))

    def commit() -> None:
        writer.write([decide()], Delivery())
        journal.commit(journal.head)
        accept()
        finish()

    def accept_and_commit() -> None:
        accept()
        journal.commit(journal.head)

    accept()
    finish()
    return [
        (
            "capture",
            "count trigger, note frame",
            accept_and_commit,
        ),
        ("capture", "copy pixels into the slot", lambda: slots.write(0, frame, pixel_format)),
        ("inference", f"{pixel_format.name} to the network's input", prepare),
        ("inference", "frozen?", lambda: repeats.count(next(pair))),
        ("inference", "fit to judge?", lambda: fitness.unfit(row, *frame.shape[:2])),
        (
            "inference",
            f"score ({scorer.engine.name})",
            lambda: scorer.score_batch(row[np.newaxis]),
        ),
        ("inference", "regions", lambda: find_defects(scored.map, calibration, region, 0)),
        ("inference", "note result", finish),
        (BESIDE, "heatmap to PNG", lambda: encode_heatmap(scored.map, calibration)),
        (BESIDE, "write heatmap", lambda: write_atomically(scratch / "h", png, synced=False)),
        ("ledger", "decide, make the message", decide),
        ("ledger", "commit one verdict, synced", commit),
    ]


def timed(call: Callable[[], object], repeat: int) -> list[float]:
    """Return sorted durations in milliseconds, after a tenth of the calls as warm-up."""
    durations = []
    for i in range(repeat + repeat // 10):
        start = time.perf_counter()
        call()
        if i >= repeat // 10:
            durations.append(1000 * (time.perf_counter() - start))
    return sorted(durations)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    demo = resources.files("ssn_agent.demo") / "demo-1.0.0.ssn"
    parser.add_argument("--bundle", type=Path, default=Path(str(demo)))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--pixel-format", choices=PixelFormat.__members__, default="Mono8")
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--engine", default=REFERENCE, help="such as openvino/bf16")
    parser.add_argument("--scratch", type=Path, help="default: the system's temporary folder")
    options = parser.parse_args()
    pixel_format = PixelFormat[options.pixel_format]
    frame = picture(options.image, pixel_format)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        measured = [
            (process, name, timed(call, options.repeat))
            for process, name, call in steps(
                options.bundle, options.engine, frame, pixel_format, Path(scratch)
            )
        ]
    total = sum(statistics.median(times) for process, _, times in measured if process != BESIDE)
    table = Table("process", "step", "median ms", "p99 ms", "share", title=str(options.bundle.name))
    for process, name, durations in measured:
        median = statistics.median(durations)
        p99 = durations[int(0.99 * len(durations))]
        share = "" if process == BESIDE else f"{median / total:.1%}"
        table.add_row(process, name, f"{median:.3f}", f"{p99:.3f}", share)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
