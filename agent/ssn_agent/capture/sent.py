"""Parts that other programs send, with their frames: there is no camera of ours."""

from pathlib import Path

from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.parts import Parts
from ssn_agent.capture.reopening import Reopening
from ssn_agent.capture.settings import ZeroMqSource
from ssn_agent.capture.zeromq import ZeroMqInput
from ssn_agent.errors import CameraError
from ssn_agent.frames.notes import CameraState
from ssn_agent.log import logger
from ssn_agent.processes import Stop


class Sent:
    """The loop of such an input."""

    def __init__(self, source: ZeroMqSource, triggers: Path, intake: Intake, life: Life) -> None:
        """Set up; nothing is bound yet. `triggers`: see `ZeroMqInput`."""
        self._intake = intake
        self._life = life
        self._input = ZeroMqInput(source.bind, triggers, Parts(intake))

    def run(self, stop: Stop) -> None:
        """Take parts until asked to stop; bind again where the address is taken."""
        reopening = Reopening()
        self._intake.note(CameraState.STARTING)
        while not stop:
            try:
                self._input.open()
                while not stop:
                    self._life.heed_reload()
                    self._life.beat()
                    self._input.serve()
                    self._intake.note_running()
                    reopening.is_well()
            except CameraError as error:
                wait_s = reopening.next_wait_s()
                self._intake.note(CameraState.FAULTY, str(error))
                if reopening.is_news(str(error)):
                    logger().error("camera fault", problem=str(error))
                self._life.beat(wait_s)
                stop.wait(wait_s)
            finally:
                self._input.close()
