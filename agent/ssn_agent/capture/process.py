"""The capture process of one camera: `python -m ssn_agent.capture.process SETTINGS CAMERA PARENT`.

Every frame of a free-running camera is a trigger; a camera that is triggered says itself which
triggers and frames come (`capture.parts`). What is counted and passed on is `capture.intake`'s. A
frame that finds no slot is INVALID(overload): capture never waits for inference, unless the source
is a file.
"""

import sys
from contextlib import suppress
from pathlib import Path

from ssn_agent.capture.camera import Camera
from ssn_agent.capture.drivers import make_camera
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.parts import Parts
from ssn_agent.capture.settings import ZeroMqSource
from ssn_agent.capture.zeromq import ZeroMqCamera
from ssn_agent.errors import AgentError, CameraEnded, CameraError, JournalError
from ssn_agent.frames.heartbeat import BEAT_S, Heartbeat
from ssn_agent.frames.layout import CameraState
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent, reload_asked_by
from ssn_agent.settings import CameraSettings, read_resolved

REOPEN_S = (0.5, 1.0, 2.0, 5.0)
"""Waits before a camera is opened again; the last one repeats."""
FULL_WAIT_S = 0.005


class Capture:
    """One camera's parts into the agent."""

    def __init__(self, camera: str, settings: CameraSettings, files: RuntimeFiles) -> None:
        """Map the files and close what a capture process before this one left without a frame."""
        self._camera = camera
        self._files = files
        self._heart = Heartbeat(files.heartbeat(f"capture:{camera}"))
        self._heart.beat()
        self._intake = Intake(camera, settings, files)
        self._source = settings.source
        self._triggers = files.triggers(camera)

    def make_camera(self) -> Camera | ZeroMqCamera:
        """Return the driver for the camera's source, closed."""
        if isinstance(self._source, ZeroMqSource):
            return ZeroMqCamera(self._source, self._triggers, Parts(self._intake))
        return make_camera(self._source)

    def run(self, camera: Camera | ZeroMqCamera, stop: Stop) -> None:
        """Take parts until asked to stop or until a file source ends; reopen after faults."""
        faults = 0
        while not stop:
            try:
                if not faults:  # a faulty camera stays so until it works again
                    self._intake.note(CameraState.STARTING)
                self._heart.beat(camera.open_limit_s + BEAT_S)
                camera.open()
                while not stop:
                    self._heed_reload()
                    self._heart.beat(camera.frame_limit_s + BEAT_S)
                    if not self._turn(camera, stop):
                        continue
                    self._intake.note_running()
                    faults = 0
            except CameraEnded as ended:
                self._intake.note(CameraState.ENDED, str(ended))
                return
            except CameraError as error:
                wait_s = REOPEN_S[min(faults, len(REOPEN_S) - 1)]
                faults += 1
                self._intake.note(CameraState.FAULTY, str(error))
                logger().error("camera fault", problem=str(error), reopen_s=wait_s)
                self._heart.beat(wait_s + BEAT_S)
                stop.wait(wait_s)
            finally:
                self._heart.beat(camera.open_limit_s + BEAT_S)
                camera.close()

    def _turn(self, camera: Camera | ZeroMqCamera, stop: Stop) -> bool:
        """Take what the camera has, within a bounded time; False: there was no room for it."""
        if isinstance(camera, ZeroMqCamera):
            camera.serve()
            return True
        if camera.waits and not self._intake.has_room():
            stop.wait(FULL_WAIT_S)
            return False
        frame = camera.next_frame()
        with suppress(JournalError):  # noted and logged by the intake: the frame is refused
            counted = self._intake.accept(frame.part_id)
            if not counted.is_closed:
                self._intake.place(counted.sequence, frame)
        return True

    def _heed_reload(self) -> None:
        """Take over the level of the log: nothing else that may change is capture's."""
        if reload_asked_by() is not None:
            level = read_resolved(self._files.settings).log_level
            configure(level, f"capture:{self._camera}")


def main(settings_path: str, camera: str, parent: str) -> None:
    """Run until asked to stop, or until the source ends."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, f"capture:{camera}")
    chosen = settings.cameras[camera]
    try:
        capture = Capture(camera, chosen, RuntimeFiles(settings.runtime_dir))
        capture.run(capture.make_camera(), stop)
    except AgentError as error:
        logger().error("the capture process cannot go on", problem=str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
