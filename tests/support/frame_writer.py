"""`python -m support.frame_writer SETTINGS FRAMES BEHIND`: a capture process that never pauses.

It puts frames of one gray value each, their number modulo 256, through a real `Intake`, and gives
each its result and commit `BEHIND` frames later, as inference and ledger would: the slot is taken
over as soon as that.
"""

import sys
import time
from pathlib import Path

import numpy as np

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.intake import Intake
from ssn_agent.errors import JournalError
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import read_resolved
from support.records import judged

SHAPE = 1500, 2000


def main(settings_path: str, frames: str, behind: str) -> None:
    """Write them all."""
    settings = read_resolved(Path(settings_path))
    intake = Intake("left", settings.cameras["left"], RuntimeFiles(settings.runtime_dir))
    for number in range(1, int(frames) + 1):
        try:
            counted = intake.accept(None)
        except JournalError:
            sys.exit("the journal is full: this writer commits what it writes")
        pixels = np.full(SHAPE, counted.sequence % 256, np.uint8)
        intake.place(counted.sequence, Frame(pixels))
        done = counted.sequence - int(behind)
        if done > 0:
            intake.journal.finish(done, judged(Outcome.PASS))
            intake.journal.commit(done)
        if number % 7 == 0:  # else nobody could ever copy one between two
            time.sleep(0.004)


if __name__ == "__main__":
    main(*sys.argv[1:])
