"""SIGKILL at each step of a swap: the next process runs a verified bundle, and says which."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.process import Inference
from ssn_agent.inference.swapping import Swapped, read_swapped
from support.bundles import SIZE, write_brightness_bundle
from support.children import environment
from support.followed import stored, want
from support.products import Cameras
from support.swap_killed import STEPS, VERSION
from support.waiting import wait_until

FOLLOW = "brightness"


@pytest.mark.parametrize("step", list(STEPS))
def test_after_a_death_at_any_step_a_verified_bundle_judges_and_the_note_names_it(
    tmp_path: Path, step: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        files = RuntimeFiles(Path(runtime))
        old = write_brightness_bundle(tmp_path / "old.ssn")
        new = write_brightness_bundle(tmp_path / "new.ssn", version=VERSION)
        digest = Bundle.open(new).digest
        camera = {"bundle": old, "follow": FOLLOW}
        cameras = Cameras(tmp_path, Path(runtime), {"left": camera})  # its inference only begins
        cameras.inference.close()
        files.swapped(FOLLOW).unlink()
        files.settings.write_text(cameras.settings.model_dump_json())
        cameras.settings.data_dir.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "support.swap_killed", step, str(files.settings)]
        process = subprocess.Popen([*command, str(os.getpid())], env=environment())
        try:
            wait_until(files.inference_ready.exists, 30, "inference is not ready")
            want(cameras.settings.models_file, FOLLOW, stored(new), None)
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
        part = cameras.frame("left", np.full((SIZE, SIZE), 20, np.uint8))
        cameras.inference = Inference(cameras.settings, files)
        cameras.inference.load()
        result = cameras.result(part)
        assert (result.outcome, result.bundle_digest) == (Outcome.PASS, digest)
        assert read_swapped(files.swapped(FOLLOW)) == Swapped(digest=digest, problem=None)
        assert cameras.note("left").bundle_digest == digest
