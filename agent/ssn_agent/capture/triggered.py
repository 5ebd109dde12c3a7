"""A camera that takes one frame for each part that other programs announce, by MQTT or ZeroMQ.

The camera has a thread of its own (`capture.grabber`); triggers are counted, answered and paired
here, at once and whatever the camera does. While it is away each trigger is INVALID(lost).
"""

from pathlib import Path

from ssn_agent.capture.camera import Camera
from ssn_agent.capture.grabber import Brought, Event, Failed, Grabber, Ready, Stray
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.listening import listen
from ssn_agent.capture.parts import Parts
from ssn_agent.capture.zeromq import ZeroMqInput
from ssn_agent.errors import CameraEnded
from ssn_agent.frames.notes import CameraState
from ssn_agent.log import logger
from ssn_agent.processes import Stop


class Triggered:
    """The loop of such a camera."""

    def __init__(
        self, camera: Camera, bind: str | None, triggers: Path, intake: Intake, life: Life
    ) -> None:
        """Set up; nothing is opened yet. `bind` and `triggers`: see `ZeroMqInput`."""
        self._grabber = Grabber(camera)
        self._intake = intake
        self._life = life
        self._parts = Parts(intake, self._grabber.ask)
        self._input = ZeroMqInput(bind, triggers, self._parts, takes_frames=False)
        self._has_failed = False

    def run(self, stop: Stop) -> None:
        """Take triggers until asked to stop or until a file source ends."""
        listen(self.open, self._intake, self._life, stop)
        try:
            while not stop:
                self.turn()
        except CameraEnded as ended:
            self._intake.note(CameraState.ENDED, str(ended))
        finally:
            self.close()

    def open(self) -> None:
        """Listen for triggers, and open the camera beside it. Raises CameraError."""
        self._input.open()
        self._grabber.start()

    def turn(self) -> None:
        """Heed what has come from senders and from the camera; wait for it for 0.1 s at most.

        Raises CameraEnded where a file source has come to its end.
        """
        self._life.heed_reload()
        if not self._grabber.hangs:  # else the supervisor replaces this process
            self._life.beat()
        self._input.serve(self._grabber.bell)
        for event in self._grabber.events():
            self._heed(event)

    def close(self) -> None:
        """Close both."""
        self._input.close()
        self._grabber.stop()

    def _heed(self, event: Event) -> None:
        match event:
            case Ready():
                self._intake.count(reconnects=int(self._has_failed))
                self._has_failed = False
                self._intake.note_running()
            case Stray():
                self._parts.discard()
            case Brought(sequence, frame):
                self._parts.bring(sequence, frame)
            case Failed(error, is_news):
                self._parts.lose()
                if isinstance(error, CameraEnded):
                    raise error
                self._has_failed = True
                self._intake.note(CameraState.FAULTY, str(error))
                if is_news:
                    logger().error("camera fault", problem=str(error))
