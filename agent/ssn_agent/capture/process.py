"""The capture process of one camera: `python -m ssn_agent.capture.process SETTINGS CAMERA PARENT`.

Three kinds of input, each with its own loop: a camera of which every frame is a part
(`capture.free_running`), one that takes a frame for each part that other programs announce
(`capture.triggered`), and parts that other programs send with their frames (`capture.sent`). What
is counted and passed on is `capture.intake`'s. A frame that finds no slot is INVALID(overload):
capture never waits for inference, unless the source is a file.
"""

import sys
from pathlib import Path

from ssn_agent.capture.drivers.choice import make_camera
from ssn_agent.capture.free_running import FreeRunning
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.sent import Sent
from ssn_agent.capture.settings import ZeroMqSource
from ssn_agent.capture.triggered import Triggered
from ssn_agent.errors import AgentError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent
from ssn_agent.settings import CameraSettings, read_resolved


def make_capture(
    name: str, settings: CameraSettings, files: RuntimeFiles
) -> FreeRunning | Triggered | Sent:
    """Return the loop for a camera's source; what an earlier process left open is closed."""
    life = Life(name, files)
    intake = Intake(name, settings, files)
    source = settings.source
    if isinstance(source, ZeroMqSource):
        return Sent(source, files.triggers(name), intake, life)
    camera = make_camera(source, intake.counted())
    if source.trigger == "software":
        return Triggered(camera, source.trigger_bind, files.triggers(name), intake, life)
    return FreeRunning(camera, intake, life)


def main(settings_path: str, camera: str, parent: str) -> None:
    """Run until asked to stop, or until the source ends."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, f"capture:{camera}")
    try:
        files = RuntimeFiles(settings.runtime_dir)
        make_capture(camera, settings.cameras[camera], files).run(stop)
    except AgentError as error:
        logger().error("the capture process cannot go on", problem=str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
