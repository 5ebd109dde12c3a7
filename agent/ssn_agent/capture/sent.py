"""Parts that other programs send, with their frames: there is no camera of ours."""

from pathlib import Path

from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.listening import listen
from ssn_agent.capture.parts import Parts
from ssn_agent.capture.settings import ZeroMqSource
from ssn_agent.capture.zeromq import ZeroMqInput
from ssn_agent.processes import Stop


class Sent:
    """The loop of such an input."""

    def __init__(self, source: ZeroMqSource, triggers: Path, intake: Intake, life: Life) -> None:
        """Set up; nothing is bound yet. `triggers`: see `ZeroMqInput`."""
        self._intake = intake
        self._life = life
        self._input = ZeroMqInput(source.bind, triggers, Parts(intake))

    def run(self, stop: Stop) -> None:
        """Take parts until asked to stop."""
        listen(self._input.open, self._intake, self._life, stop)
        try:
            while not stop:
                self._life.heed_reload()
                self._life.beat()
                self._input.serve()
                self._intake.note_running()
        finally:
            self._input.close()
